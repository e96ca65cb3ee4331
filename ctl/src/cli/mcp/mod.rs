//! `llctl mcp`: a server of the Model Context Protocol on standard input and output, through which a model takes
//! checkpoints and goes back to them.
//!
//! Only this command has an asynchronous runtime. It has one thread; what asks the daemon runs on others, one a request.

mod act;
mod resources;
mod tools;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use llctl::locate::{self, Mount};
use llctl::{Client, ClientError, exit};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{RequestContext, RoleServer, ServiceExt};
use rmcp::{ServerHandler, transport};

use super::Outcome;
use super::args::Global;
use super::fail::Fail;

/// What a model is told about all of it.
const INSTRUCTIONS: &str = "\
This directory is mounted with llfs: any state of it can be kept and restored exactly, whatever program changed it, including \
files that git ignores, databases and .git itself. Checkpoints take milliseconds and next to no space.

- Before anything risky or hard to undo (deleting, moving, migrations, git reset/rebase, package installs, code generators, mass \
edits): `checkpoint` with a message that says why.
- To try a command that may fail: `run_guarded`; if it fails, nothing of what it did to the files is left.
- When something went wrong: `list` to find the checkpoint, `diff` to see what has changed since, then `revert`. The first call \
only shows what would change; call it again with confirm=true. All files go back, not only those that you changed: say so to the \
user if others work in this directory too.
- A revert that was wrong: `undo` brings back what it discarded.
- Processes outside this directory, remote services and files elsewhere are not covered.";

/// `llctl mcp`
pub fn run(global: &Global) -> Outcome {
    let server = Server {
        place: Arc::new(Place::of(global)?),
    };
    // A client keeps its server for as long as it runs: that must not keep the mount busy.
    std::env::set_current_dir("/")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(async {
        let running = server.serve(transport::stdio()).await?;
        running.waiting().await?;
        Ok::<(), Box<dyn std::error::Error>>(())
    });
    // Whoever reads standard input is left behind: it may never come back.
    runtime.shutdown_background();
    served.map_err(|error| Fail::Refused {
        code: exit::FAILED,
        kind: "mcp",
        message: format!("the conversation with the MCP client failed: {error}"),
        hint: Some(
            "`llctl mcp` is started by an MCP client, which speaks JSON-RPC with it; docs/AGENTS.md says how"
                .to_owned(),
        ),
    })?;
    Ok(exit::OK)
}

/// Where the daemon is. Found once: the directory that this program stands in may be removed and come back.
#[derive(Debug)]
enum Place {
    Mount(Mount),
    Socket(PathBuf),
    /// Not mounted now, but it may be later.
    Directory(PathBuf),
}

impl Place {
    fn of(global: &Global) -> Result<Self, Fail> {
        if let Some(socket) = &global.socket {
            return Ok(Self::Socket(socket.clone()));
        }
        match locate::locate(global.directory.as_deref()) {
            Ok(mount) => Ok(Self::Mount(mount)),
            // A client that cannot start its server says little about why: better to say it when a tool is called.
            Err(locate::LocateError::NoMount { path }) => Ok(Self::Directory(path)),
            Err(error) => Err(ClientError::from(error).into()),
        }
    }

    fn connect(&self) -> Result<Client, ClientError> {
        match self {
            Self::Mount(mount) => Client::connect_mount(mount),
            Self::Socket(socket) => Client::connect_socket(socket),
            Self::Directory(path) => Client::connect(path),
        }
    }

    /// The options with which llctl finds the same daemon.
    fn options(&self) -> Vec<std::ffi::OsString> {
        let (option, path) = match self {
            Self::Mount(mount) => ("-C", &mount.mountpoint),
            Self::Socket(socket) => ("--socket", socket),
            Self::Directory(path) => ("-C", path),
        };
        vec![option.into(), path.into()]
    }

    /// Where commands run.
    fn directory(&self) -> Option<PathBuf> {
        match self {
            Self::Mount(mount) => Some(mount.mountpoint.clone()),
            Self::Directory(path) => Some(path.clone()),
            Self::Socket(_) => None,
        }
    }
}

struct Server {
    place: Arc<Place>,
}

/// Runs what may wait for the daemon where nobody waits for it.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ErrorData> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("llfs", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::all()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let place = Arc::clone(&self.place);
        let arguments = request.arguments.unwrap_or_default();
        let name = request.name;
        let done = aside(move || act::tool(&place, &name, arguments)).await?;
        let result = match done {
            Ok(done) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(done.text)]);
                result.structured_content = Some(done.data);
                result
            }
            // A failure that the model reads and can act upon, not one of the protocol.
            Err(why) => CallToolResult::error(vec![ContentBlock::text(why.to_string())]),
        };
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let place = Arc::clone(&self.place);
        let found = aside(move || resources::list(&place)).await?;
        found
            .map(ListResourcesResult::with_all_items)
            .map_err(|why| ErrorData::internal_error(why.to_string(), None))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(
            resources::templates(),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let place = Arc::clone(&self.place);
        let read = aside(move || resources::read(&place, &request.uri)).await?;
        read.map(Into::into)
            .map_err(|why| ErrorData::resource_not_found(why.to_string(), None))
    }
}

/// What keeps a request from being done, for the model to read.
#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("{0}{hint}", hint = .0.hint().map(|hint| format!(" Hint: {hint}")).unwrap_or_default())]
    Client(#[from] ClientError),
    #[error("the arguments are not what the tool takes: {0}")]
    Arguments(#[from] serde_json::Error),
    #[error("{0}")]
    Name(#[from] llctl::name::NameError),
    #[error("the command was not run: {0}")]
    Run(#[from] io::Error),
    #[error("{0}")]
    Other(String),
}
