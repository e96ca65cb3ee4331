//! Runs the targets with stable Rust: inputs of the corpora, changed at random. `tests/fuzz` starts it.
//!
//! What libFuzzer does better is to see which code an input reaches. This finds less, and runs everywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use llfs_fuzz::{INPUT_MAX, TARGETS};

const USAGE: &str = "usage: stable [--seconds N] [--seed S] [--target T]... | --target T FILE...";
/// An input that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(30);

struct Args {
    seconds: u64,
    seed: u64,
    targets: Vec<String>,
    files: Vec<PathBuf>,
}

fn args() -> Result<Args, String> {
    let mut found = Args {
        seconds: 20,
        seed: clock(),
        targets: Vec::new(),
        files: Vec::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok()).ok_or(USAGE);
        match arg.as_str() {
            "--seconds" => found.seconds = number()?,
            "--seed" => found.seed = number()?,
            "--target" => found.targets.push(args.next().ok_or(USAGE)?),
            other if other.starts_with('-') => return Err(USAGE.to_owned()),
            file => found.files.push(file.into()),
        }
    }
    let unknown = |name: &&String| TARGETS.iter().all(|(known, _)| known != name);
    if let Some(name) = found.targets.iter().find(unknown) {
        return Err(format!("there is no target {name}"));
    }
    if !found.files.is_empty() && found.targets.len() != 1 {
        return Err(USAGE.to_owned());
    }
    Ok(found)
}

fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |now| now.as_nanos() as u64)
}

/// What is being run, for whoever finds that it failed or hangs.
static RUNNING: Mutex<Option<(String, Vec<u8>)>> = Mutex::new(None);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Keeps the input that is being run, and says how to run it again.
fn keep() {
    let running = RUNNING
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .take();
    let Some((target, input)) = running else {
        return;
    };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("artifacts")
        .join(&target);
    let path = dir.join(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&input)));
    match std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, &input)) {
        Ok(()) => eprintln!("again: tests/fuzz --target {target} {}", path.display()),
        Err(error) => eprintln!("{target}: {input:?} (not kept: {error})"),
    }
}

fn run(target: &str, input: Vec<u8>) {
    *RUNNING.lock().expect("nobody panics with it") = Some((target.to_owned(), input.clone()));
    COUNT.fetch_add(1, Relaxed);
    llfs_fuzz::run(target, &input);
}

/// Ends the process when the same input runs for too long.
fn watch() {
    let mut last = (u64::MAX, Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = COUNT.load(Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > HANG {
            eprintln!("an input hangs");
            keep();
            std::process::abort();
        }
    }
}

/// xorshift64*, which a seed repeats everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize) % end.max(1)
    }

    fn pick<'a>(&mut self, of: &'a [Vec<u8>]) -> &'a [u8] {
        &of[self.below(of.len())]
    }

    /// A place in `bytes`, or behind them.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        const ODD: [u64; 10] = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0xffff,
            0x7fff_ffff,
            0xffff_ffff,
            u64::MAX,
        ];
        let width = 1 + self.below(8);
        let (from, length) = (self.place(bytes), 1 + self.below(1 << width));
        let to = (from + length).min(bytes.len());
        match self.below(10) {
            0 | 1 if from < to => bytes[from] ^= 1 << self.below(8),
            2 if from < to => bytes[from] = self.next() as u8,
            3 => {
                let odd = ODD[self.below(ODD.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - from);
                bytes[from..from + width].copy_from_slice(&odd[..width]);
            }
            4 => drop(bytes.drain(from..to)),
            5 => {
                let value = self.next() as u8;
                bytes.splice(from..from, std::iter::repeat_n(value, length));
            }
            6 => {
                let random: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
                bytes.splice(from..from, random);
            }
            7 => {
                let copy = bytes[from..to].to_vec();
                let at = self.place(bytes);
                bytes.splice(at..at, copy);
            }
            8 => {
                let other = self.pick(corpus);
                let (start, end) = (self.place(other), self.place(other));
                let part = &other[start.min(end)..start.max(end)];
                bytes.splice(from..to, part.iter().copied());
            }
            _ => bytes.truncate(from.max(1)),
        }
        bytes.truncate(INPUT_MAX);
    }

    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = if self.below(16) == 0 {
            (0..self.below(300)).map(|_| self.next() as u8).collect()
        } else {
            self.pick(corpus).to_vec()
        };
        for _ in 0..1 << self.below(6) {
            self.change(&mut bytes, corpus);
        }
        bytes
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    // In the order of their names, so that a seed means the same everywhere.
    let inputs: BTreeMap<_, _> = entries
        .map(|entry| {
            let path = entry.expect("a directory can be read").path();
            let bytes = std::fs::read(&path).expect("a corpus can be read");
            (path, bytes)
        })
        .collect();
    assert!(!inputs.is_empty(), "{} is empty", dir.display());
    inputs.into_values().collect()
}

fn main() -> Result<(), String> {
    let args = args()?;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        usual(info);
        keep();
    }));
    std::thread::spawn(watch);
    for file in &args.files {
        let input = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        run(&args.targets[0], input);
        println!("{}: nothing found", file.display());
    }
    if !args.files.is_empty() {
        return Ok(());
    }
    let wanted = |name: &str| args.targets.is_empty() || args.targets.iter().any(|t| t == name);
    let targets: Vec<&str> = TARGETS
        .iter()
        .map(|t| t.0)
        .filter(|name| wanted(name))
        .collect();
    let share = Duration::from_secs(args.seconds) / targets.len() as u32;
    println!("seed {}", args.seed);
    for target in targets {
        let corpus = corpus(target);
        let name = xxhash_rust::xxh3::xxh3_64(target.as_bytes());
        let mut random = Random((args.seed ^ name).max(1));
        let (begin, first) = (Instant::now(), COUNT.load(Relaxed));
        for input in &corpus {
            run(target, input.clone());
        }
        while begin.elapsed() < share {
            run(target, random.input(&corpus));
        }
        println!("{target}: {} inputs", COUNT.load(Relaxed) - first);
    }
    Ok(())
}
