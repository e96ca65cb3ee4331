//! Messages as bytes: a frame is its length (u32, little endian) and that many bytes of MessagePack.
//!
//! Lengths are bounded before anything is allocated, and memory grows only with bytes that really arrived.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest handshake frame, in bytes, in both directions.
pub const HELLO_MAX: u32 = 16 << 10;
/// The longest request, in bytes.
pub const REQUEST_MAX: u32 = 1 << 20;
/// The longest message of an answer, in bytes. Longer answers are several messages.
pub const REPLY_MAX: u32 = 16 << 20;

/// Why a message did not come through.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The peer closed the connection between two messages.
    #[error("the connection was closed")]
    Closed,
    /// The peer closed the connection inside a message.
    #[error("the connection was closed in the middle of a message")]
    Truncated,
    /// The frame is longer than allowed here.
    #[error("a message of {len} bytes, where at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        max: u32,
    },
    /// The bytes are no message of the expected type.
    #[error("not a valid message: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// The message cannot be encoded; a bug.
    #[error("a message that cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
    /// The connection failed, or timed out (`WouldBlock` or `TimedOut`).
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CodecError {
    /// Whether the peer was too slow.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// `message` as one frame, at most `max` bytes without its length.
pub fn encode<T: Serialize>(message: &T, max: u32) -> Result<Vec<u8>, CodecError> {
    let mut frame = vec![0; 4];
    rmp_serde::encode::write_named(&mut frame, message)?;
    let body = (frame.len() - 4) as u64;
    match u32::try_from(body) {
        Ok(len) if len <= max => {
            frame[..4].copy_from_slice(&len.to_le_bytes());
            Ok(frame)
        }
        _ => Err(CodecError::TooLong { len: body, max }),
    }
}

/// Writes one frame; does not flush.
pub fn write<T: Serialize>(
    writer: &mut impl Write,
    message: &T,
    max: u32,
) -> Result<(), CodecError> {
    let frame = encode(message, max)?;
    writer.write_all(&frame)?;
    Ok(())
}

/// Reads one frame of at most `max` bytes. The whole frame must be the message, nothing may follow it.
pub fn read<T: DeserializeOwned>(reader: &mut impl Read, max: u32) -> Result<T, CodecError> {
    let body = read_frame(reader, max)?;
    decode(&body)
}

/// The bytes of one frame, without its length.
pub fn read_frame(reader: &mut impl Read, max: u32) -> Result<Vec<u8>, CodecError> {
    let mut head = Vec::with_capacity(4);
    reader.take(4).read_to_end(&mut head)?;
    let len = match <[u8; 4]>::try_from(head.as_slice()) {
        Ok(bytes) => u32::from_le_bytes(bytes),
        Err(_) if head.is_empty() => return Err(CodecError::Closed),
        Err(_) => return Err(CodecError::Truncated),
    };
    if len > max {
        return Err(CodecError::TooLong {
            len: u64::from(len),
            max,
        });
    }
    let mut body = Vec::new();
    reader.take(u64::from(len)).read_to_end(&mut body)?;
    if body.len() as u64 != u64::from(len) {
        return Err(CodecError::Truncated);
    }
    Ok(body)
}

/// The message that `body` is.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    let mut deserializer = rmp_serde::Deserializer::new(body);
    let message = T::deserialize(&mut deserializer)?;
    if !deserializer.get_ref().is_empty() {
        return Err(
            rmp_serde::decode::Error::Uncategorized("bytes after the message".to_owned()).into(),
        );
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Hello, Request, Response};

    #[test]
    fn a_message_survives_its_frame() {
        let mut wire = Vec::new();
        write(&mut wire, &Hello::new("test"), HELLO_MAX).unwrap();
        write(&mut wire, &Request::Ping, REQUEST_MAX).unwrap();
        let mut reader = wire.as_slice();
        assert_eq!(
            read::<Hello>(&mut reader, HELLO_MAX).unwrap(),
            Hello::new("test")
        );
        assert_eq!(
            read::<Request>(&mut reader, REQUEST_MAX).unwrap(),
            Request::Ping
        );
        assert!(matches!(
            read::<Request>(&mut reader, REQUEST_MAX),
            Err(CodecError::Closed)
        ));
    }

    #[test]
    fn the_bytes_of_a_greeting_stay_what_they_are() {
        let hello = Hello {
            magic: "llfs-control".into(),
            version: 1,
            client: "t".into(),
            id: 0,
            next: 0,
            why: None,
        };
        let body = b"\x83\xa5magic\xacllfs-control\xa7version\x01\xa6client\xa1t";
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(body);
        assert_eq!(encode(&hello, HELLO_MAX).unwrap(), frame);
    }

    #[test]
    fn a_greeting_with_more_fields_is_understood() {
        let body =
            b"\x84\xa5magic\xacllfs-control\xa7version\x09\xa6client\xa1t\xa5extra\x93\x01\x02\x03";
        assert_eq!(decode::<Hello>(body).unwrap().version, 9);
    }

    #[test]
    fn cuts_and_lies_about_the_length_are_errors() {
        let frame = encode(&Hello::new("test"), HELLO_MAX).unwrap();
        for cut in 1..frame.len() {
            assert!(
                matches!(
                    read::<Hello>(&mut &frame[..cut], HELLO_MAX),
                    Err(CodecError::Truncated)
                ),
                "cut at {cut}"
            );
        }
        let mut long = u32::MAX.to_le_bytes().to_vec();
        long.push(0xc0);
        assert!(matches!(
            read::<Hello>(&mut long.as_slice(), REPLY_MAX),
            Err(CodecError::TooLong { .. })
        ));
        assert!(matches!(
            encode(&Hello::new("x".repeat(100)), 100),
            Err(CodecError::TooLong { .. })
        ));
        let mut trailing = encode(&Request::Ping, REQUEST_MAX).unwrap();
        trailing.push(0xc0);
        trailing[0] += 1;
        assert!(matches!(
            read::<Request>(&mut trailing.as_slice(), REQUEST_MAX),
            Err(CodecError::Decode(_))
        ));
    }

    #[test]
    fn a_length_without_bytes_allocates_nothing_much() {
        let mut wire: &[u8] = &[0xff, 0xff, 0xff, 0x00, 1, 2, 3];
        assert!(matches!(
            read_frame(&mut wire, REPLY_MAX),
            Err(CodecError::Truncated)
        ));
        // An array that claims four billion elements.
        assert!(decode::<Response>(b"\x81\xa7deleted\xdd\xff\xff\xff\xff").is_err());
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            if let Ok(request) = decode::<Request>(&bytes) {
                proptest::prop_assert_eq!(decode::<Request>(&encode(&request, REQUEST_MAX).unwrap()[4..]).unwrap(), request);
            }
            proptest::prop_assert!(decode::<Hello>(&bytes).is_err());
        }
    }
}
