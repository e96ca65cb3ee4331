//! The command line, and the help that explains it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use llctl::protocol::OnConflict;
use llctl::{SnapName, StateRef, exit};

use super::archive::ArchiveArgs;
use super::complete;
use super::config::ConfigCommand;
use super::history::HistoryArgs;
use super::listing::ListArgs;
use super::meta::MetaArgs;
use super::metrics::MetricsArgs;
use super::prune::PruneArgs;
use super::transfer::{ExportArgs, ImportArgs};
use super::watch::WatchArgs;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const ABOUT: &str =
    "Take snapshots of a directory mounted with llfs, see what changed, and go back";

const LONG_ABOUT: &str = "\
Take snapshots of a directory mounted with llfs, see what changed, and go back.

`llfs mount DIR` puts a snapshot filesystem over a directory; llctl then works from anywhere inside it. A snapshot holds \
every file exactly as it is at that moment and costs next to nothing. A revert makes the whole directory what it was in a \
snapshot, and can be undone itself.";

const EXAMPLES: &str = "\
Examples:
  llctl snap before-upgrade -m 'all tests pass'   remember the state of everything
  llctl diff                                      what changed since the last snapshot
  llctl diff before-upgrade --patch -- src        the same as text, only below src
  llctl log src/main.rs                           when it changed, and by which program
  llctl cat before-upgrade:src/main.rs            as it was
  llctl restore before-upgrade src/main.rs        make it what it was, and nothing else
  llctl revert before-upgrade                     make everything what it was
  llctl undo                                      no, bring back what the revert discarded
  llctl -C ~/work/repo status --json              about another directory, for a program

Which mount: -C DIR if given, else the directory in $LLFS_MOUNT if set, else the current directory; any directory inside \
the mount will do.

States: besides snapshot names, diff and revert know @base (the directory as it is below the mount), @10m or \
@2026-11-21T10:00 (the newest snapshot that is as old as that) and, for diff, @undo (what the last revert discarded), @redo (what \
the last undo discarded) and @live (everything as it is now). Any program can read an old state: it is the directory .llfs/NAME \
at the root of the mount, which no listing shows.

JSON: with --json each command prints one JSON object, except that diff, verify and apply print one a line, each with a \
single key: change, finding, plan, summary or applied. A failure prints {\"error\": {\"kind\", \"message\", \"hint\"}} as \
the last line, and the usual text on stderr. Times are RFC 3339 in UTC, sizes are bytes. A path is a string, or \
{\"bytes\": \"<hex>\"} if it is not UTF-8.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "llctl", version, about = ABOUT, long_about = LONG_ABOUT, styles = STYLES)]
#[command(
    after_help = "See `llctl --help` for examples and exit codes, `llctl COMMAND --help` for one command."
)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{}", exit::TABLE))]
#[command(
    arg_required_else_help = true,
    infer_subcommands = false,
    max_term_width = 100
)]
pub struct Args {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Work on the mount that holds DIR instead of the current directory
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Talk to the daemon at this control socket, without looking for a mount
    #[arg(
        long,
        value_name = "PATH",
        global = true,
        conflicts_with = "directory",
        hide_short_help = true
    )]
    pub socket: Option<PathBuf>,
    /// Say why, for `llctl history`
    #[arg(long, value_name = "TEXT", global = true, hide_short_help = true)]
    pub why: Option<String>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// When to use colors; auto means on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: ColorWhen,
}

/// When to color the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take a snapshot of everything in the mount
    #[command(after_help = "\
Everything that programs have written when this begins is in the snapshot, also into files that are still open.

Examples:
  llctl snap
  llctl snap before-upgrade -m 'all tests pass'
  llctl snap --session s-17 --phase refactor --metric tests=212 --tag green

Of a git repository in the mount, HEAD's commit and branch are read (not with git, so it costs nothing) and kept too: of the current directory's, else of the mount's root. The trace is taken from $TRACEPARENT if --trace is not given.")]
    Snap {
        /// Its name: at most 128 bytes, no '/', not beginning with '-', '@' or '.'; without one, it is made from the time,
        /// such as 2026-11-21-114402
        name: Option<SnapName>,
        /// A message to keep with it
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        /// Retention never gives it up
        #[arg(long)]
        pin: bool,
        /// Take none if nothing has changed since there was one
        #[arg(long)]
        if_changed: bool,
        /// Also ask `git status` whether the repository is dirty, and keep the answer: true if a tracked file or the index
        /// differs from HEAD, or a file is neither tracked nor ignored
        #[arg(long)]
        git_status: bool,
        /// What else it says of itself
        #[command(flatten)]
        meta: MetaArgs,
    },
    /// List the snapshots, and what reverts have discarded
    #[command(
        visible_alias = "ls",
        after_help = "\
CHANGED counts what differs from the snapshot before; ALONE is the space that deleting only this snapshot would free. Filters \
that are given must all hold. The oldest come first; -n shows the newest, --skip pages back.

Examples:
  llctl list -n 20
  llctl list --session s-17 --tag green --since 2h
  llctl list --sort alone -n 5        what takes most space"
    )]
    List(ListArgs),
    /// Show the last snapshot of a session and its metrics, to take the work up again
    #[command(after_help = "\
Examples:
  llctl resume s-17
  llctl revert $(llctl resume s-17 --json | jq -r .name)")]
    Resume {
        /// The session; without one, the last snapshot of all
        session: Option<String>,
    },
    /// Show one snapshot: when, why, what changed
    ///
    /// Its hash is a checksum of all that it shows, computed behind the scenes a moment after it was taken. Where two hashes are equal, the
    /// trees are: names, types, modes, owners, times of files, attributes and contents.
    Show {
        /// Its name
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        name: SnapName,
    },
    /// Show what differs between two states, by file or as a patch
    Diff(DiffArgs),
    /// Show in which snapshots a file changed, and which programs changed it
    #[command(after_help = "\
Newest first, beginning with what no snapshot holds yet. Each snapshot is compared with the state that it came from, so a revert \
is no change. Renames are followed back. Letters are those of `llctl diff`. A directory shows what changed below it.

Example: llctl log src/main.rs")]
    Log {
        /// The file or directory, relative to the current directory
        path: PathBuf,
        /// Not more than so many entries
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<u64>,
    },
    /// Show which programs changed a file: name, process, user, and what they did
    #[command(after_help = "\
By snapshot, newest first, beginning with what no snapshot holds yet. It is written down every few seconds: what was done just \
before a crash of the daemon may be missing. What a program stored through a memory mapping shows as (a mapping). The record of \
a snapshot goes when the snapshot is deleted.

Example: llctl who package.json")]
    Who {
        /// The file or directory, relative to the current directory
        path: PathBuf,
        /// Not more than so many snapshots
        #[arg(short = 'n', long, value_name = "NUMBER")]
        limit: Option<u64>,
    },
    /// Make single files and directories what they were in a snapshot
    Restore(RestoreArgs),
    /// Print a file as it is in a snapshot
    #[command(after_help = "\
Examples:
  llctl cat before-upgrade:src/main.rs
  llctl cat @10m:notes.txt                 as it was ten minutes ago
  llctl cat before-upgrade notes.txt > old.txt

To look at more than one file, or with other programs, use .llfs/NAME/ at the root of the mount.")]
    Cat {
        /// The state and the file, relative to the current directory; or the state alone
        #[arg(value_name = "NAME:PATH")]
        what: OsString,
        /// The file, if it is not part of the first argument
        path: Option<PathBuf>,
    },
    /// Make everything in the mount, or a part of it, what it was in a snapshot
    Revert(RevertArgs),
    /// Check whether a revert is safe, without doing it
    #[command(after_help = "\
Looks whether the snapshot exists, whether anything that the revert would bring back is known to be damaged, whether git is in the \
middle of something that the revert would end, what was changed since the last snapshot, and who has files open for \
writing. Exits as the revert would: 4, 7 or 9 for the first three; the others are no reason to refuse, since undo brings \
everything back.")]
    CanRevert {
        /// The snapshot's name, or @base for the directory below the mount
        #[arg(value_name = "NAME")]
        #[arg(add = ArgValueCompleter::new(complete::states))]
        to: StateRef,
        /// Only say what speaks against it, as `revert --force` passes it
        #[arg(long)]
        force: bool,
    },
    /// Take back the last revert: bring back what it discarded
    #[command(after_help = "\
Every revert keeps what it discards. `llctl undo` goes back to it, and once more to what the revert before that discarded; \
`llctl redo` goes forth again. What was changed since is kept in its turn, so that nothing is lost by either.

Examples:
  llctl undo          take the last revert back
  llctl undo 3        take the last three back
  llctl undo -n       what that would change
  llctl redo          no, the revert was right")]
    Undo {
        /// How many reverts to take back; all of them or none
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "STEPS")]
        steps: u32,
        /// What it would change.
        #[command(flatten)]
        preview: PreviewArgs,
    },
    /// Take back the last undo
    Redo {
        /// How many undos to take back; all of them or none
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), value_name = "STEPS")]
        steps: u32,
    },
    /// Delete snapshots, for good, and free the space that only they use
    #[command(after_help = "\
Asks, unless --yes is given; where nobody can be asked, it refuses. Undo brings no snapshot back.")]
    Delete {
        /// Their names; if one does not exist, none is deleted
        #[arg(required = true, value_name = "NAME")]
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        names: Vec<SnapName>,
        /// Do it without asking
        #[arg(short, long)]
        yes: bool,
        /// Only show what would be deleted
        #[arg(short = 'n', long, conflicts_with = "yes")]
        dry_run: bool,
    },
    /// Give up snapshots that retention does not keep, and free the space that only they use
    Prune(PruneArgs),
    /// Compress what old snapshots hold, in place
    Archive(ArchiveArgs),
    /// Say that another phase of the work begins: takes a snapshot if anything has changed
    #[command(after_help = "\
The snapshot is what there was before the phase, and has the phase in it; so have those that llfs takes by itself from then on.

Examples:
  llctl phase refactor --session s-17
  llctl list --phase refactor")]
    Phase {
        /// The phase
        name: String,
        /// The session that it belongs to
        #[arg(long, value_name = "SESSION")]
        session: Option<String>,
    },
    /// Say that another session of the work begins: takes a snapshot if anything has changed
    #[command(after_help = "\
The snapshot is the end of what was before: it says the session before, whose work it holds. Those that llfs takes by itself from then on \
say the new one.

Examples:
  llctl session s-18
  llctl list --session s-18")]
    Session {
        /// The session, such as one run of an agent
        #[arg(value_name = "SESSION")]
        id: String,
    },
    /// Check llfs.toml, put it in force, or show what is in force
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Give a snapshot another name
    Rename {
        /// The name now
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        old: SnapName,
        /// The new name
        new: SnapName,
    },
    /// Show what was done to the snapshots and the tree: who, when, why, and what became of it
    History(HistoryArgs),
    /// Show what happens to the mount as it happens: snapshots, reverts, restarts of the daemon, scarce space
    Watch(WatchArgs),
    /// Print counts and times for Prometheus, or serve them
    Metrics(MetricsArgs),
    /// Change what a snapshot says of itself: its message, session, metrics and so on
    #[command(after_help = "\
What is given replaces what was there; tags and metrics come to those that are there. The rest stays.

Examples:
  llctl annotate before-upgrade -m 'and the linter is content'
  llctl annotate before-upgrade --metric tests=213 --unset coverage")]
    Annotate {
        /// The snapshot's name
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        name: SnapName,
        /// The new message; an empty one takes it away
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        /// Take a metric away; may be given several times
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        /// What else it says of itself
        #[command(flatten)]
        meta: MetaArgs,
    },
    /// Give a snapshot words to find it by, or take them away; retention keeps what has tags
    Tag {
        /// The snapshot's name
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        name: SnapName,
        /// The tags
        #[arg(required = true, value_name = "TAG")]
        tags: Vec<String>,
        /// Take these tags away
        #[arg(short = 'd', long)]
        delete: bool,
    },
    /// Keep snapshots whatever retention says
    Pin {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        names: Vec<SnapName>,
    },
    /// Leave snapshots to retention again
    Unpin {
        /// Their names
        #[arg(required = true, value_name = "NAME")]
        #[arg(add = ArgValueCompleter::new(complete::snapshots))]
        names: Vec<SnapName>,
    },
    /// Show the mount, its store, and whether they are well
    ///
    /// And what changed since the last snapshot, what the store takes, and which programs have files open for writing (of other users'
    /// programs only root sees any). `llctl list` tells what each snapshot holds alone.
    Status,
    /// Read everything that is stored and check that it is undamaged; exits with 7 if it is not
    ///
    /// It stands back: it reads at the lowest priority for the processor and in the idle class of the disk. Files of the directory below
    /// whose size and times are what they were when the hash of a snapshot was computed are not read again.
    Verify,
    /// Write the current state into the directory below the mount, for good
    #[command(after_help = "\
Shows what it would do and asks, unless --yes is given; where nobody can be asked, it refuses. A crash in between loses \
nothing: the apply goes on at the next mount.")]
    Apply {
        /// Do it without asking
        #[arg(short, long)]
        yes: bool,
        /// Only show what it would do
        #[arg(short = 'n', long, conflicts_with = "yes")]
        dry_run: bool,
    },
    /// Run a command, and revert what it did to the mount if it fails
    Run(RunArgs),
    /// Do what a sentence says, such as \"rollback to checkpoint before-upgrade\"
    #[command(after_help = format!("\
Shows the command that the sentence means, and does it. What is not understood is not guessed.

What is understood:
{}

Example: llctl do \"rollback session feature-auth-001 to dor-checkpoint\"", llctl::phrase::EXAMPLES))]
    Do {
        /// The sentence
        #[arg(required = true, value_name = "WORDS")]
        words: Vec<String>,
        /// Only show the command
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Take a checkpoint before each tool call of a coding agent that may write
    #[command(subcommand)]
    Hook(HookCommand),
    /// Serve the Model Context Protocol on standard input and output, for agents
    #[command(after_help = "\
Started by an agent, not by a person. Its tools are checkpoint, list, show, diff, revert (which shows what would change until it is \
confirmed), undo, redo and run_guarded; checkpoints are resources too. It works on the mount that holds the directory it is started in, \
or DIR with -C DIR.

Examples:
  claude mcp add llfs -- llctl mcp
  codex mcp add llfs -- llctl mcp
  gemini mcp add llfs llctl mcp
  {\"mcpServers\": {\"llfs\": {\"command\": \"llctl\", \"args\": [\"mcp\"]}}}     in .cursor/mcp.json")]
    Mcp,
    /// Write snapshots to a file, with all that they show
    Export(ExportArgs),
    /// Make snapshots of what `export` wrote
    Import(ImportArgs),
    /// Print a script that completes llctl's commands, and the names of snapshots, in a shell
    #[command(after_help = "\
The script asks llctl at each TAB.

Examples:
  llctl completions bash > ~/.local/share/bash-completion/completions/llctl
  llctl completions zsh > ~/.zfunc/_llctl          with fpath+=~/.zfunc before compinit
  llctl completions fish > ~/.config/fish/completions/llctl.fish")]
    Completions {
        /// The shell: bash, zsh, fish, elvish or powershell
        #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
        shell: String,
    },
    /// Write the manual pages of llctl into a directory
    #[command(after_help = "\
Example: llctl man ~/.local/share/man/man1; llfs man does the same for llfs.")]
    Man {
        /// The directory; made if it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// What `diff` takes.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Each line begins with what happened: A added, D deleted, M content modified, R renamed, T of another type, m mode or owner, \
x extended attributes, t times. Patches can be fed to `git apply` and `patch -p1`. On a terminal the output goes through \
$LLFS_PAGER, $PAGER or less.

Examples:
  llctl diff                            since the last snapshot
  llctl diff monday friday              between two snapshots
  llctl diff monday --stat -- src docs  since monday, lines by file, only below src and docs
  llctl diff monday -p > changes.patch")]
pub struct DiffArgs {
    /// The older state: a snapshot, @base or @undo [default: the last snapshot, or @base if there is none]
    #[arg(add = ArgValueCompleter::new(complete::states))]
    pub from: Option<StateRef>,
    /// The newer state [default: @live, everything as it is now]
    #[arg(add = ArgValueCompleter::new(complete::states))]
    pub to: Option<StateRef>,
    /// Show the changed lines
    #[arg(short, long)]
    pub patch: bool,
    /// Show how many lines changed in each file
    #[arg(long, conflicts_with = "patch")]
    pub stat: bool,
    /// Exit with 1 if there are differences
    #[arg(long)]
    pub exit_code: bool,
    /// Only these files and directories, relative to the current directory
    #[arg(last = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
}

/// What `revert` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
When this returns, no program sees anything but the snapshot, not even through files that it has open. What was there before \
is kept: `llctl undo` brings it back. Nothing is asked for that reason; git in the middle of a merge, rebase, cherry-pick, \
revert or bisect that would end is a reason to refuse (exit code 9), and so is known damage (7); --force passes both.

A part: with --path or --component, only what they choose becomes what it was. With --checkpoint, what was done between \
the snapshot before that one and that one itself is undone, and everything done later stays; --task and --session do that for all \
snapshots that say they are of it. Where a file was changed since, or goes \
together with one that is not chosen (a rename, a hard link, a directory), nothing is done and the files are named (exit code 10), unless \
--on-conflict says which side wins. A directory in which something stays, stays where it is, whoever wins.

Patterns: * and ? match within a name, ** across directories, [ab] and {a,b} one of several. They are relative to the current \
directory, or with a leading / to the mount's root. A pattern that matches a directory chooses everything below it.

Examples:
  llctl revert before-upgrade
  llctl revert @base                           as if nothing had ever been changed
  llctl revert before-upgrade --dry-run -p     what that would change, as a patch
  llctl revert before-upgrade --path 'src/**/*.rs' --path Cargo.toml
  llctl revert before-upgrade --component frontend
  llctl revert --checkpoint second-try         undo that step, keep what came after it
  llctl revert --task A --cascade --preserve B undo task A and what came of it, but not task B")]
pub struct RevertArgs {
    /// The snapshot's name, or @base for the directory below the mount
    #[arg(
        value_name = "NAME",
        required_unless_present_any = ["checkpoints", "tasks", "sessions"],
        conflicts_with_all = ["checkpoints", "tasks", "sessions"]
    )]
    #[arg(add = ArgValueCompleter::new(complete::states))]
    pub to: Option<StateRef>,
    /// Only paths that match this pattern
    #[arg(long = "path", value_name = "PATTERN")]
    pub paths: Vec<String>,
    /// Only this component, a list of patterns in llfs.toml: [components] NAME = [\"PATTERN\", ...]
    #[arg(long = "component", value_name = "NAME")]
    pub components: Vec<String>,
    /// Undo what led to this snapshot from the one before it, and keep what was done since
    #[arg(long = "checkpoint", value_name = "NAME")]
    #[arg(add = ArgValueCompleter::new(complete::snapshots))]
    pub checkpoints: Vec<SnapName>,
    /// The same for all snapshots of this task
    #[arg(long = "task", value_name = "TASK")]
    pub tasks: Vec<String>,
    /// The same for all snapshots of this session
    #[arg(long = "session", value_name = "SESSION")]
    pub sessions: Vec<String>,
    /// With --task or --session: also what came of it, the tasks that have it for their parent task
    #[arg(long)]
    pub cascade: bool,
    /// With --task, --session or --cascade: but nothing of this task
    #[arg(long, value_name = "TASK")]
    pub preserve: Vec<String>,
    /// When others changed the same file: do nothing, undo that too, or leave the file as it is
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub on_conflict: ConflictWinner,
    /// Revert although git is in the middle of something, or although damage is known
    #[arg(short, long)]
    pub force: bool,
    /// What it would change.
    #[command(flatten)]
    pub preview: PreviewArgs,
}

/// What `restore` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Brings back what is gone, and makes what is there just what it was: content, mode, owner, times, extended attributes, and of a \
directory everything below it. What came into a directory since goes. Nothing else changes, and `llctl undo` takes it \
back. What can only be restored together with something that was not named (the new name of a file that was renamed, a removed \
directory of which only a part is wanted) is named, and nothing is done (exit code 10), unless --on-conflict says which side wins.

To have an old file beside the new one, copy it: `cp -a .llfs/NAME/FILE FILE.old` at the root of the mount.

Examples:
  llctl restore before-upgrade src/main.rs Cargo.toml
  llctl restore @10m notes/                       as they were ten minutes ago
  llctl restore before-upgrade src --dry-run -p   what that would change")]
pub struct RestoreArgs {
    /// A snapshot, a time such as @10m, @base or @undo
    #[arg(value_name = "NAME")]
    #[arg(add = ArgValueCompleter::new(complete::states))]
    pub from: StateRef,
    /// The files and directories, relative to the current directory
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// When others are in the way: do nothing, undo that too, or leave the file as it is
    #[arg(long, value_name = "WHAT", default_value = "stop")]
    pub on_conflict: ConflictWinner,
    /// Restore although that ends what git is in the middle of
    #[arg(short, long)]
    pub force: bool,
    /// What it would change.
    #[command(flatten)]
    pub preview: PreviewArgs,
}

/// What a preview shows.
#[derive(Debug, Clone, clap::Args)]
pub struct PreviewArgs {
    /// Only show what would change
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// With --dry-run: show the lines that would change
    #[arg(short, long, requires = "dry_run")]
    pub patch: bool,
    /// With --dry-run: show how many lines would change in each file
    #[arg(long, requires = "dry_run", conflicts_with = "patch")]
    pub stat: bool,
}

impl PreviewArgs {
    /// The same as what `diff` takes.
    pub fn as_diff(&self) -> DiffArgs {
        DiffArgs {
            patch: self.patch,
            stat: self.stat,
            ..DiffArgs::default()
        }
    }
}

impl DiffArgs {
    /// Whether contents are needed.
    pub fn contents(&self) -> bool {
        self.patch || self.stat
    }
}

/// Who wins where a file is to be reverted that others have changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConflictWinner {
    /// Nobody: nothing is done.
    Stop,
    /// The revert.
    Revert,
    /// Whoever changed it since.
    Keep,
}

impl From<ConflictWinner> for OnConflict {
    fn from(winner: ConflictWinner) -> Self {
        match winner {
            ConflictWinner::Stop => Self::Stop,
            ConflictWinner::Revert => Self::Revert,
            ConflictWinner::Keep => Self::Keep,
        }
    }
}

/// What `run` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Takes a snapshot, runs the command, and reverts to the snapshot if the command exits with anything but 0, is killed, or takes \
longer than --timeout. Before a revert everything that the command started and that still runs is ended: SIGTERM, and after \
5 seconds (or Ctrl-C) SIGKILL. What the command changes outside the mount stays.

The command has the terminal; signals sent to llctl are handed on to it. Standard output and error are the command's; what llctl \
did, and how to undo it, is said on standard error at the end. With --json, the last line of standard output is {\"run\": ...}. \
Runs can be nested.

The exit code is the command's, or the check's if only that failed: 128 and the signal's number if it was killed, 124 if it took \
too long, 125 if llctl itself failed, 126 if the command cannot be started, 127 if there is none.

Examples:
  llctl run -- make install
  llctl run --timeout 10m --verify 'cargo test' -- ./codemod.sh
  llctl run --on-failure ask -- npm install
  llctl run --keep-on 1,124 --timeout 60 -- ./flaky.sh")]
pub struct RunArgs {
    /// The session that the snapshot is of
    #[arg(long, value_name = "SESSION")]
    pub session: Option<String>,
    /// End the command after this time, such as 90s, 10m or 1h30m; the check gets the same time again
    #[arg(long, value_name = "TIME", value_parser = super::run::parse_timeout)]
    pub timeout: Option<Duration>,
    /// What to do when the command or the check fails
    #[arg(long, value_name = "WHAT", default_value = "revert")]
    pub on_failure: WhenFailed,
    /// Exit codes of the command that are no failure (124 for a timeout, 128 and the signal for a killed command)
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub keep_on: Vec<u8>,
    /// A check, run with `sh -c` after the command: if it does not exit with 0, that is a failure
    #[arg(long, value_name = "COMMAND")]
    pub verify: Option<String>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What is done when a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WhenFailed {
    /// Make everything what it was before the command.
    Revert,
    /// Ask on the terminal.
    Ask,
    /// Leave everything as the command left it.
    Keep,
}

/// What `hook` takes.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
`llctl hook install AGENT` tells the agent to call `llctl hook AGENT` before each tool call. That reads the call as JSON from \
standard input and takes a snapshot, unless the tool is known to only read, or nothing changed since the last one. It never stops \
the agent: whatever goes wrong is said once a session, and the exit code is 0.

Examples:
  llctl hook install claude-code           for everything that you do with Claude Code
  llctl hook install codex --project       for this project, in its own settings
  llctl hook install cursor --dry-run      only show what would be changed
  llctl hook install gemini --remove       take it out again, and nothing else")]
pub enum HookCommand {
    /// Put the hook into an agent's settings, or take it out
    Install(InstallArgs),
    /// Before a tool call of Claude Code, which is on standard input
    ClaudeCode,
    /// Before a tool call of Codex, which is on standard input
    Codex,
    /// Before a tool call of Gemini CLI, which is on standard input
    Gemini,
    /// Before a tool call of Cursor, which is on standard input
    Cursor,
}

/// What `hook install` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Shows the change and asks, unless --yes is given. Everything else in the file stays as it is, comments too.

The settings: ~/.claude/settings.json, ~/.codex/hooks.json, ~/.gemini/settings.json, ~/.cursor/hooks.json (CLAUDE_CONFIG_DIR and \
CODEX_HOME are respected); with --project the same below the current directory, or DIR with -C DIR.")]
pub struct InstallArgs {
    /// The agent
    pub agent: AgentName,
    /// In your own settings, for all that you do (the default)
    #[arg(long)]
    pub user: bool,
    /// In the settings of the project in the current directory
    #[arg(long, conflicts_with = "user")]
    pub project: bool,
    /// Take the hook out
    #[arg(long)]
    pub remove: bool,
    /// Only show the change
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Do it without asking
    #[arg(short, long, conflicts_with = "dry_run")]
    pub yes: bool,
}

/// The agents that have hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AgentName {
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// Cursor.
    Cursor,
}

impl From<AgentName> for llctl::hook::Agent {
    fn from(name: AgentName) -> Self {
        match name {
            AgentName::ClaudeCode => Self::ClaudeCode,
            AgentName::Codex => Self::Codex,
            AgentName::Gemini => Self::Gemini,
            AgentName::Cursor => Self::Cursor,
        }
    }
}
