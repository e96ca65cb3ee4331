//! A long run: mixed load, snapshots, reverts, deletions and killed workers, while memory, descriptors, the store's size and
//! latencies are watched.
//!
//! The time is cut into blocks. In the first fifth of each, workers are killed; then one worker lives, so that what leaks in
//! it shows, and what becomes slower with its age: the load rests at the beginning and at the end of that, and is compared. At the end of each all other states than the present one are given up, and what the store takes is compared
//! with what can be reached.

mod load;
mod probe;
mod report;
mod sample;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::command::{Finished, until};
use crate::dice::{Dice, Random};
use crate::history::{History, Step};
use crate::killer::Killer;
use crate::mounted::Mounted;
use crate::op::{Flavour, roll, sprout};
use crate::tree;

use load::Load;
use probe::Probe;
use report::Block;
use sample::Sampler;

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long all blocks take together.
    pub time: Duration,
    /// How many there are.
    pub blocks: u32,
    /// Where chance begins.
    pub seed: u64,
    /// How many times as slow as in the first block operations may be in the last, compared with those beside the mount.
    /// Short blocks on a busy machine say nothing of that.
    pub drift: Option<f64>,
}

/// Snapshots that are kept; older ones are deleted at random.
const SNAPSHOTS: usize = 48;
/// Of those that nobody asked for, retention by hand keeps the newest so many at most.
const PRUNED_TO: usize = 8;
/// What is in force: snapshots take themselves as often as that can be, and retention keeps most of them.
const RULES: &str =
    "[checkpoints]\nquiet = \"1s\"\nevery = \"10s\"\nbulk = 20\n[retention]\nkeep_last = 40\n";
/// Modelled operations between two steps that are none.
const OPERATIONS: usize = 30;
/// States that reverts discarded are kept so many at most: after as many reverts to the present state, nothing else is
/// reachable.
const DISCARDED: usize = 64;
/// Milliseconds that a worker lives at most while they are killed.
const LIFE: usize = 1500;

/// Runs it, and prints a table.
///
/// # Panics
/// When anything is not as it has to be.
pub fn run(plan: Plan) {
    println!("seed {}, {:?}", plan.seed, plan.time);
    let mut random = Random::new(plan.seed);
    let mut mounted = Mounted::prepare("soak");
    mounted.by_itself();
    mounted.allow(plan.time * 2 + Duration::from_secs(600));
    for dir in ["model", "load", "probe"] {
        fs::create_dir(mounted.path(dir)).expect("the base is empty");
    }
    tree::plant(&mounted.path("load"), plan.seed, 800).expect("a tree can be planted");
    let beside = mounted.scratch.dir("beside");
    let root = mounted.path("model");
    let mut history = History::below(mounted, root, sprout().iter());
    let mounted = &history.mounted;
    mounted.rules(RULES);
    let mut blocks = Vec::new();
    let mut kills = 0;
    let time = plan.time / plan.blocks;
    for _ in 0..plan.blocks {
        let (calm, end) = (Instant::now() + time / 5, Instant::now() + time);
        let block = one_block(
            &mut history,
            &mut random,
            Moments { calm, end },
            &beside,
            &mut kills,
        );
        println!("{block}");
        blocks.push(block);
    }
    println!("{kills} workers killed");
    report::judge(&blocks, plan.drift);
    history.compare("at the end");
    history.finish();
}

#[derive(Clone, Copy)]
struct Moments {
    calm: Instant,
    end: Instant,
}

fn one_block(
    history: &mut History,
    random: &mut Random,
    moments: Moments,
    beside: &Path,
    kills: &mut usize,
) -> Block {
    let dir = history.mounted.dir.clone();
    let supervisor = history.mounted.pid();
    let mut killer = Some(Killer::start(&dir, supervisor, random.next_u64(), LIFE));
    let mut load = Load::start(&dir.join("load"), random.next_u64());
    let mut block = Block::default();
    let at_rest = || probe::at_rest(&dir.join("probe"), beside);
    let mut watch: Option<(Sampler, Probe)> = None;
    // One step may take longer than all the rest of a block, on a machine that does other things.
    while watch.is_none() || Instant::now() < moments.end {
        if Instant::now() >= moments.calm
            && let Some(killer) = killer.take()
        {
            let killed = killer.stop();
            *kills += killed;
            block.kills = killed;
            // From here on one worker serves.
            load.stop();
            block.rest[0] = at_rest();
            load = Load::start(&dir.join("load"), random.next_u64());
            let sampler = Sampler::start(supervisor);
            watch = Some((sampler, Probe::start(&dir.join("probe"), beside)));
        }
        for _ in 0..OPERATIONS {
            let row: [u16; 10] = random.row();
            let op = roll(&mut Dice::new(&row), Flavour::Modelled);
            history.take(&Step::Do(op));
            block.operations += 1;
        }
        history.follow_retention();
        let step = match random.below(28) {
            0..6 if history.snapshots() < SNAPSHOTS => Step::Snap,
            0..12 if history.snapshots() < SNAPSHOTS => Step::Automatic,
            0..14 => Step::Delete(random.next_u64() as u16),
            14..17 => Step::Revert(random.next_u64() as u16),
            17..19 => Step::Prune(random.below(PRUNED_TO) as u16),
            19 => {
                look(history, random);
                continue;
            }
            20..24 => {
                block.parts += u64::from(revert_beside(history, random));
                continue;
            }
            _ if history.can_undo() => Step::Undo(1),
            _ => Step::Snap,
        };
        block.count(&step);
        history.take(&step);
    }
    if let Some(killer) = killer {
        *kills += killer.stop();
    }
    load.stop();
    let (sampler, probe) = watch.expect("the loop ends in the calm");
    block.samples = sampler.stop();
    block.latency = probe.stop();
    block.rest[1] = at_rest();
    history.mounted.verify();
    history.compare_all();
    (block.store, block.live) = settle(history);
    block
}

/// Some of what the load changes meanwhile, all of it or what is below one directory or one file, becomes what it was in a snapshot.
fn revert_beside(history: &mut History, random: &mut Random) -> bool {
    let Some(name) = any_of(&history.mounted.names(), random) else {
        return false;
    };
    let dir = &history.mounted.dir;
    let there = tree::paths(&dir.join("load"));
    let chosen = match random.below(4) {
        0 => None,
        _ => there.get(random.below(there.len().max(1))),
    };
    let path = chosen.and_then(|path| path.strip_prefix(dir).ok()?.to_str());
    let pattern = format!("{}/**", path.unwrap_or("load"));
    let pattern = match random.below(2) {
        0 if path.is_some() => pattern.trim_end_matches("/**"),
        _ => &pattern,
    };
    let on_conflict = ["stop", "keep", "revert"][random.below(3)];
    history.revert_beside(&name, pattern, on_conflict)
}

fn any_of(names: &[String], random: &mut Random) -> Option<String> {
    names.get(random.below(names.len().max(1))).cloned()
}

/// What differs from a snapshot is told, and what changed when.
fn look(history: &History, random: &mut Random) {
    let Some(name) = any_of(&history.mounted.names(), random) else {
        return;
    };
    let told = told_whole(history, &["diff", &name]);
    // It may be one that took itself, and is given up at any moment.
    assert!([0, 4].contains(&told.code()), "{}", told.text());
    let told = told_whole(history, &["log", "model"]);
    assert_eq!(told.code(), 0, "{}", told.text());
}

/// What llctl answers. A worker that is killed in the middle of an answer makes it incomplete, which is said, and it is asked again.
fn told_whole(history: &History, args: &[&str]) -> Finished {
    until(
        "an answer that is not cut off",
        Duration::from_secs(60),
        || {
            let told = history.mounted.llctl(args).finish();
            let cut = "the daemon's worker died in the middle of the answer";
            (told.code() == 0 || !told.text().contains(cut)).then_some(told)
        },
    )
}

/// Gives up all states but the present one, waits until no more space is given back, and tells what the store takes and what
/// the tree takes, in bytes.
fn settle(history: &mut History) -> (u64, u64) {
    while history.snapshots() > 0 {
        history.take(&Step::Delete(0));
    }
    let mounted = &history.mounted;
    mounted.llctl(&["prune", "--keep-last", "0", "--yes"]).ok();
    mounted.snap("settle");
    for number in 0..=DISCARDED {
        // A revert that changes nothing may leave nothing to undo.
        fs::write(mounted.path("settle"), number.to_string()).expect("there is space");
        mounted.revert("settle");
    }
    mounted.delete("settle");
    history.forget_discarded();
    let size = || {
        let status = history.mounted.json(&["status"]);
        status["store_bytes"].as_u64().expect("a number")
    };
    let mut last = (size(), Instant::now());
    until("the store to settle", Duration::from_secs(120), || {
        std::thread::sleep(Duration::from_millis(200));
        let now = size();
        if now != last.0 {
            last = (now, Instant::now());
        }
        // The daemon looks every five seconds by itself.
        (last.1.elapsed() > Duration::from_secs(7)).then_some(())
    });
    (last.0, sample::bytes_below(&history.mounted.dir))
}
