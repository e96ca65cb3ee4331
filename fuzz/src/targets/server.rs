//! The control socket's server, with what a client may send.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llctl::Client;
use llctl::client::{Snapped, VerifyEvent};
use llctl::codec::{self, CodecError, HELLO_MAX, REPLY_MAX};
use llctl::config::Retention;
use llctl::protocol::{
    Act, ApplyDone, ApplyPlan, BytePath, Change, ChangeCounts, ConfigInfo, ErrorKind, Failure,
    Hello, HelloReply, HistoryQuery, ListQuery, Listing, LogEntry, MetaEdit, MetricsInfo,
    OnConflict, PROTOCOL_VERSION, Part, Progress, PruneInfo, Response, RevertCheck, RevertInfo,
    Side, SnapDetail, SnapInfo, SnapMeta, StatusInfo, VerifySummary, Welcome,
};
use llctl::{SnapName, StateRef};
use llfs::control::{Feed, Listener, Server, Service, Sink};

/// A service that has nothing and can do nothing.
struct Nothing;

fn nothing<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::new(ErrorKind::NotFound, what))
}

impl Service for Nothing {
    fn welcome(&self) -> Welcome {
        Welcome {
            version: PROTOCOL_VERSION,
            daemon: "0".to_owned(),
            pid: 1,
            mountpoint: BytePath::from("/m"),
            store: BytePath::from("/s"),
            mount: 0,
        }
    }
    fn snap(
        &self,
        name: Option<&SnapName>,
        message: Option<&str>,
        _: &SnapMeta,
    ) -> Result<SnapInfo, Failure> {
        assert!(message.is_none_or(|text| text.len() <= llctl::protocol::MESSAGE_MAX));
        nothing(name.map_or("no name", SnapName::as_str))
    }
    fn snap_if_changed(
        &self,
        name: Option<&SnapName>,
        _: Option<&str>,
        _: &SnapMeta,
    ) -> Result<Snapped, Failure> {
        nothing(name.map_or("no name", SnapName::as_str))
    }
    fn list(&self, _: &ListQuery) -> Result<Listing, Failure> {
        Ok(Listing::default())
    }
    fn show(&self, name: &SnapName) -> Result<SnapDetail, Failure> {
        nothing(name.as_str())
    }
    fn diff(
        &self,
        _: Option<&StateRef>,
        _: &StateRef,
        _: &[BytePath],
        _: bool,
        _: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure> {
        Ok(ChangeCounts::default())
    }
    fn log(&self, path: &BytePath, _: Option<u64>, _: Sink<'_, LogEntry>) -> Result<(), Failure> {
        nothing(&path.to_string())
    }
    fn stat(&self, _: &StateRef, path: &BytePath) -> Result<Side, Failure> {
        nothing(&path.to_string())
    }
    fn cat(
        &self,
        _: &StateRef,
        path: &BytePath,
        _: u64,
        _: Sink<'_, Vec<u8>>,
    ) -> Result<(), Failure> {
        nothing(&path.to_string())
    }
    fn revert(&self, to: &StateRef, _: bool) -> Result<RevertInfo, Failure> {
        assert!(!matches!(to, StateRef::Live | StateRef::Undo));
        nothing("no state")
    }
    fn can_revert(&self, to: &StateRef) -> Result<RevertCheck, Failure> {
        nothing(&to.to_string())
    }
    fn revert_part(&self, _: &Part, _: OnConflict, _: bool) -> Result<RevertInfo, Failure> {
        nothing("no state")
    }
    fn preview_part(
        &self,
        _: &Part,
        _: OnConflict,
        _: bool,
        _: Sink<'_, Change>,
    ) -> Result<ChangeCounts, Failure> {
        nothing("no state")
    }
    fn undo(&self, _: u32) -> Result<RevertInfo, Failure> {
        nothing("no state")
    }
    fn redo(&self, _: u32) -> Result<RevertInfo, Failure> {
        nothing("no state")
    }
    fn delete(&self, names: &[SnapName], _: Option<&[u64]>) -> Result<Vec<String>, Failure> {
        Ok(names.iter().map(ToString::to_string).collect())
    }
    fn rename(&self, from: &SnapName, _: &SnapName) -> Result<SnapInfo, Failure> {
        nothing(from.as_str())
    }
    fn describe(&self, name: &SnapName, _: &MetaEdit) -> Result<SnapInfo, Failure> {
        nothing(name.as_str())
    }
    fn begun(&self, _: &Act) -> Option<u64> {
        None
    }

    fn note(&self, _: Act, _: Option<u64>, _: bool) {}

    fn watch(&self, _: Option<u64>) -> Result<Box<dyn Feed>, Failure> {
        nothing("no events")
    }
    fn history(&self, _: &HistoryQuery) -> Result<Vec<Act>, Failure> {
        nothing("no history")
    }
    fn config(&self) -> Result<ConfigInfo, Failure> {
        nothing("no rules")
    }
    fn trust(&self, _: &str) -> Result<ConfigInfo, Failure> {
        nothing("no rules")
    }
    fn prune(
        &self,
        _: Option<&Retention>,
        _: bool,
        _: Option<&[u64]>,
    ) -> Result<PruneInfo, Failure> {
        nothing("no rules")
    }
    fn phase(&self, _: &str, _: Option<&str>) -> Result<Snapped, Failure> {
        nothing("no rules")
    }

    fn session(&self, _: &str) -> Result<Snapped, Failure> {
        nothing("no rules")
    }

    fn metrics(&self) -> Result<MetricsInfo, Failure> {
        nothing("no metrics")
    }

    fn status(&self) -> Result<StatusInfo, Failure> {
        nothing("no status")
    }
    fn verify(&self, _: Sink<'_, VerifyEvent>) -> Result<VerifySummary, Failure> {
        nothing("nothing stored")
    }
    fn plan_apply(&self) -> Result<ApplyPlan, Failure> {
        nothing("no plan")
    }
    fn apply(&self, _: Option<u64>, _: Sink<'_, Progress>) -> Result<ApplyDone, Failure> {
        nothing("no base")
    }
    fn prepare_shutdown(&self, _: bool, _: Sink<'_, Progress>) -> Result<(), Failure> {
        nothing("it stays")
    }
    fn begin_shutdown(&self) {
        panic!("a shutdown that was not prepared");
    }
}

/// Where the only server of this process listens; its directory is empty of anything else.
fn socket() -> &'static PathBuf {
    static SOCKET: OnceLock<PathBuf> = OnceLock::new();
    SOCKET.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("llfs-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory");
        let path = dir.join("server.sock");
        let listener = Listener::bind(&path).expect("a socket");
        let server = Server::start(listener, Arc::new(Nothing)).expect("a thread");
        // It serves for as long as the process lives.
        std::mem::forget(server);
        path
    })
}

/// `data` as all that a client says, with a greeting before it or without.
pub fn server(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else {
        return;
    };
    let mut stream = connected();
    let mut wire = Vec::new();
    if how & 1 == 1 {
        wire = codec::encode(&Hello::new("fuzz"), HELLO_MAX).expect("a greeting");
    }
    if how & 2 == 2 {
        wire.extend_from_slice(&(data.len() as u32).to_le_bytes());
    }
    wire.extend_from_slice(data);
    // The server hangs up at the first wrong byte, with the rest unread.
    let sent = stream
        .write_all(&wire)
        .and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if let Err(error) = &read {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::ConnectionReset,
            "no answer within its time"
        );
    }
    if sent.is_ok() && read.is_ok() {
        answers(&answer);
    }
    if how & 0xf0 == 0 {
        let mut client = Client::connect_socket(socket()).expect("the server takes others");
        client.ping().expect("the server answers others");
    }
}

/// A connection that waits for its answer no longer than anything takes here.
fn connected() -> UnixStream {
    let stream = UnixStream::connect(socket()).expect("the server listens");
    let patience = Some(Duration::from_secs(4));
    stream.set_read_timeout(patience).expect("a time");
    stream.set_write_timeout(patience).expect("a time");
    stream
}

/// Whatever came, what goes back are whole messages.
fn answers(mut bytes: &[u8]) {
    match codec::read::<HelloReply>(&mut bytes, HELLO_MAX) {
        Ok(_) | Err(CodecError::Closed) => {}
        Err(error) => panic!("no greeting: {error}"),
    }
    loop {
        match codec::read::<Response>(&mut bytes, REPLY_MAX) {
            Ok(_) => {}
            Err(CodecError::Closed) => return,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}
