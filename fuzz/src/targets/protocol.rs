//! The codec and the messages, without a socket.

use std::fmt::Debug;
use std::io::{self, Read};

use llctl::codec::{self, HELLO_MAX, REPLY_MAX, REQUEST_MAX};
use llctl::protocol::{Hello, HelloReply, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bounds;

/// Gives one byte a time.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(1);
        self.0.read(&mut out[..count])
    }
}

/// Bytes that a message may take, once read: a list of empty strings takes 24 for each byte of the message, a growing
/// list twice as much and half of that again while it is copied. A megabyte is what an announced length alone may take.
fn limit(data: &[u8]) -> usize {
    (4 << 20) + 120 * data.len()
}

/// `data` as a frame, and as what is in one.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8], max: u32) {
    bounds::memory(limit(data), || {
        let whole = codec::read::<T>(&mut &*data, max);
        let slow = codec::read::<T>(&mut Trickle(data), max);
        match (&whole, &slow) {
            (Ok(a), Ok(b)) => same(a, b),
            (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string()),
            _ => panic!("in pieces it is another message: {whole:?}, {slow:?}"),
        }
        if let Ok(message) = codec::decode::<T>(data) {
            let bytes = codec::encode(&message, u32::MAX).expect("what was decoded can be encoded");
            let again =
                codec::read::<T>(&mut &*bytes, u32::MAX).expect("what was encoded can be decoded");
            same(&message, &again);
        }
        for cut in [data.len() / 2, data.len().saturating_sub(1)] {
            // A message that was cut off is an error, or the whole message ended before.
            if codec::read::<T>(&mut &data[..cut], max).is_ok() {
                assert!(whole.is_ok(), "a part is a message and the whole is none");
            }
        }
    });
}

/// Equal; a number that is none (`NaN`) is not equal to itself, but its text is.
fn same<T: PartialEq + Debug>(a: &T, b: &T) {
    assert!(
        a == b || format!("{a:?}") == format!("{b:?}"),
        "{a:?} became {b:?}"
    );
}

/// What the daemon reads.
pub fn request(data: &[u8]) {
    message::<Hello>(data, HELLO_MAX);
    message::<Request>(data, REQUEST_MAX);
}

/// What a client reads.
pub fn response(data: &[u8]) {
    message::<HelloReply>(data, HELLO_MAX);
    message::<Response>(data, REPLY_MAX);
}
