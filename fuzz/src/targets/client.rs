//! The client, with what a daemon may answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use llctl::codec::{self, HELLO_MAX, REQUEST_MAX};
use llctl::protocol::{BytePath, Hello, HelloReply, PROTOCOL_VERSION, Request, Welcome};
use llctl::{Client, SnapName, StateRef};

/// How often the daemon was connected to with the present answer.
static TIMES: AtomicU32 = AtomicU32::new(0);

/// What the daemon says instead of its greeting (if the first byte is odd), or instead of an answer.
static ANSWER: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A daemon that answers everything with [`ANSWER`].
fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("llfs-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        let path = dir.join("client.sock");
        drop(std::fs::remove_file(&path));
        let listener = UnixListener::bind(&path).expect("a socket");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                drop(serve(stream.expect("a connection")));
            }
        });
        path
    })
}

fn serve(mut stream: std::os::unix::net::UnixStream) -> Result<(), codec::CodecError> {
    let answer = ANSWER.lock().expect("nobody panics with it").clone();
    let (how, answer) = answer.split_first().unwrap_or((&0, &[]));
    codec::read::<Hello>(&mut stream, HELLO_MAX)?;
    // A client that lost a worker connects to the next one of the same daemon. Here the next one is of another.
    let times = TIMES.fetch_add(1, Ordering::Relaxed);
    if how & 1 == 1 && times == 0 {
        stream.write_all(answer)?;
        return Ok(());
    }
    let welcome = Welcome {
        version: PROTOCOL_VERSION,
        daemon: "0".to_owned(),
        pid: 1 + times,
        mountpoint: BytePath::from("/m"),
        store: BytePath::from("/s"),
        mount: 0,
    };
    codec::write(&mut stream, &HelloReply::Welcome(welcome), HELLO_MAX)?;
    codec::read::<Request>(&mut stream, REQUEST_MAX)?;
    stream.write_all(answer)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // The client hangs up; that it does is what is waited for.
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// `data` as all that a daemon answers.
pub fn client(data: &[u8]) {
    *ANSWER.lock().expect("nobody panics with it") = data.to_vec();
    TIMES.store(0, Ordering::Relaxed);
    let Ok(mut client) = Client::connect_socket(socket()) else {
        return;
    };
    let name = || SnapName::new("n").expect("a name");
    let which = data.first().map_or(0, |how| how >> 1) % 14;
    let failed = match which {
        0 => client.snap(None, None).err(),
        1 => client.list().err(),
        2 => client.show(name()).err(),
        3 => client
            .diff(None, StateRef::Live, Vec::new(), true, |_| Ok(()))
            .err(),
        4 => client.revert(name().into()).err(),
        5 => client.undo().err(),
        6 => client.delete(vec![name()]).err(),
        7 => client.rename(name(), name()).err(),
        8 => client.status().err(),
        9 => client.verify(|_| Ok(())).err(),
        10 => client.apply(|_| Ok(())).err(),
        11 => client.plan_apply().err(),
        12 => client.shutdown(true, |_| Ok(())).err(),
        _ => client.ping().err(),
    };
    if let Some(error) = failed {
        assert!(!error.to_string().is_empty());
        // Nothing that came before is taken for the answer to what is asked next, unless the daemon had just failed.
        if !matches!(error, llctl::ClientError::Failure(_)) {
            assert!(client.ping().is_err(), "a broken connection answers");
        }
    }
}
