//! The memory as the next worker finds it.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::*;

/// The same memory, as another process would map it.
fn heir(relay: &Relay) -> Arc<Relay> {
    Relay::inherit(relay.as_fd().try_clone_to_owned().unwrap()).unwrap()
}

fn ask(unique: u64) -> Asked {
    Asked {
        unique,
        op: Op::Mkdir,
        ino: 1,
        pid: 7,
        pooled: false,
    }
}

#[test]
fn the_next_worker_finds_what_was_held_at_every_moment() {
    let relay = Relay::new().unwrap();
    let mut table = Table::attach(relay.clone()).unwrap();
    let mut model: HashMap<u64, (u32, u32)> = HashMap::new();
    let mut dice = 0x1234_5678_9abc_def0_u64;
    let mut roll = |sides: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % sides
    };
    for step in 0..200_000 {
        let ino = 2 + roll(if step < 100_000 { 20_000 } else { 300 });
        let entry = model.entry(ino).or_default();
        match roll(10) {
            0..=4 => {
                let (generation, first) = table.hold(ino);
                assert_eq!((generation, first), (entry.1, entry.0 == 0));
                table.place(ino, ino + 1);
                entry.0 += 1;
            }
            5..=8 => {
                let n = 1 + roll(3) as u32;
                let gone = entry.0 > 0 && entry.0 <= n;
                assert_eq!(table.forget(ino, n.into()), gone);
                entry.0 = entry.0.saturating_sub(n);
            }
            _ if roll(50) == 0 => {
                table.retire(ino);
                entry.1 += 1;
            }
            _ => assert_eq!(table.holds(ino), entry.0 > 0),
        }
        if step % 40_000 == 0 || step == 199_999 {
            let later = Table::attach(heir(&relay)).unwrap();
            let found: HashMap<u64, (u32, u32)> = later
                .iter()
                .map(|e| (e.ino, (e.lookups, e.generation)))
                .collect();
            let live = model.iter().filter(|(_, v)| **v != (0, 0));
            assert_eq!(found, live.map(|(k, v)| (*k, *v)).collect());
            assert!(
                later
                    .iter()
                    .all(|e| e.lookups == 0 || e.parent == e.ino + 1)
            );
            table = later;
        }
    }
}

#[test]
fn memory_that_is_not_used_any_more_is_given_back() {
    let relay = Relay::new().unwrap();
    let mut table = Table::attach(relay.clone()).unwrap();
    for round in 0..20u64 {
        for ino in 0..50_000 {
            table.hold(2 + round * 50_000 + ino);
        }
        for ino in 0..50_000 {
            table.forget(2 + round * 50_000 + ino, 1);
        }
    }
    let stat = nix::sys::stat::fstat(relay.as_fd()).unwrap();
    let bytes = stat.st_blocks * 512;
    assert!(bytes < 8 << 20, "{bytes} bytes for nothing");
}

#[test]
fn a_request_that_was_done_is_known_and_one_that_was_not_is_not() {
    let relay = Relay::new().unwrap();
    assert!(!relay.begin_change(&ask(10)));
    relay.appending(5, b"record");
    // Killed here, before it was in the journal or after.
    let later = heir(&relay);
    later.met(5, b"record");
    later.met(6, b"another");
    assert!(!later.begin_change(&ask(10 | 1 << 63)));
    later.appending(6, b"record");
    let third = heir(&later);
    third.met(6, b"another");
    third.met(7, b"record");
    assert!(third.begin_change(&ask(10 | 1 << 63)));
    // And again, if that worker is killed before it answers.
    assert!(heir(&third).begin_change(&ask(10 | 1 << 63)));
    assert!(!third.begin_change(&ask(12)));
    assert!(!third.begin_change(&ask(10)));
}

#[test]
fn only_the_first_record_of_a_request_counts() {
    let relay = Relay::new().unwrap();
    assert!(!relay.begin_change(&ask(2)));
    relay.appending(1, b"the change");
    relay.appended();
    relay.appending(2, b"something that follows from it");
    assert!(heir(&relay).begin_change(&ask(2)));
    // Other threads write records of their own.
    assert!(!relay.begin_change(&ask(4)));
    let other = relay.clone();
    std::thread::spawn(move || {
        other.appending(3, b"of another thread");
        other.appended();
    })
    .join()
    .unwrap();
    assert!(!heir(&relay).begin_change(&ask(4)));
}

#[test]
fn an_errand_is_done_once() {
    let relay = Relay::new().unwrap();
    let errand = Errand {
        client: 99,
        number: 1,
    };
    assert_eq!(relay.begin_errand(errand), Turn::New);
    relay.appending(8, b"snap");
    let later = heir(&relay);
    assert_eq!(later.begin_errand(errand), Turn::New);
    later.appending(8, b"snap");
    later.met(9, b"snap");
    assert_eq!(later.begin_errand(errand), Turn::Done(b"snap".to_vec()));
    let next = Errand {
        number: 2,
        ..errand
    };
    assert_eq!(later.begin_errand(next), Turn::New);
    later.end_errand();
}

#[test]
fn a_record_aside_is_none_of_the_request() {
    let relay = Relay::new().unwrap();
    assert!(!relay.begin_change(&ask(9)));
    requests::aside(|| {
        relay.appending(1, b"a mark");
        relay.appended();
    });
    // Killed here: the next worker is to carry the request out.
    let later = heir(&relay);
    later.met(2, b"a mark");
    assert!(!later.begin_change(&ask(9)));
    assert!(!relay.begin_change(&ask(9)));
    requests::aside(|| ());
    relay.appending(2, b"the removal");
    relay.appended();
    assert!(heir(&relay).begin_change(&ask(9)));
}

#[test]
fn an_errand_that_another_thread_carries_out_is_done_with_the_record_that_it_names() {
    let relay = Relay::new().unwrap();
    let errand = Errand {
        client: 99,
        number: 1,
    };
    assert_eq!(relay.begin_errand(errand), Turn::New);
    let passed = relay.pass_errand().unwrap();
    assert!(relay.pass_errand().is_none());
    let carry = |relay: &Arc<Relay>, name: bool| {
        let relay = relay.clone();
        std::thread::spawn(move || {
            relay.appending(3, b"begins");
            relay.appended();
            if name {
                relay.carry_out(passed, b"the answer".to_vec());
                relay.appending(4, b"staged");
                relay.appended();
            }
        })
        .join()
        .unwrap();
    };
    carry(&relay, false);
    let later = heir(&relay);
    assert_eq!(later.begin_errand(errand), Turn::New, "it was only begun");
    carry(&relay, true);
    let answer = Turn::Done(b"the answer".to_vec());
    assert_eq!(heir(&relay).begin_errand(errand), answer);
}

/// As many clients as there are places may come and go while one waits for a hook, or for its turn.
#[test]
fn an_errand_that_takes_long_keeps_its_place() {
    let relay = Relay::new().unwrap();
    let of = |client| Errand { client, number: 1 };
    assert_eq!(relay.begin_errand(of(1)), Turn::New);
    for client in 2..200_u64 {
        let relay = relay.clone();
        let other = move || {
            assert_eq!(relay.begin_errand(of(client)), Turn::New);
            relay.appending(client, &client.to_le_bytes());
            relay.appended();
            relay.end_errand();
        };
        std::thread::spawn(other).join().unwrap();
    }
    // And one that has come to its place, and is not done.
    let one = relay.clone();
    let begins = move || assert_eq!(one.begin_errand(of(200)), Turn::New);
    std::thread::spawn(begins).join().unwrap();
    relay.appending(200, b"the first");
    relay.appended();
    let later = heir(&relay);
    let done = Turn::Done(b"the first".to_vec());
    assert_eq!(later.begin_errand(of(1)), done, "it would be done twice");
    for client in 150..200_u64 {
        let own = Turn::Done(client.to_le_bytes().to_vec());
        assert_eq!(later.begin_errand(of(client)), own);
    }
    assert_eq!(later.begin_errand(of(200)), Turn::New);
    later.end_errand();
}

/// What is kept instead of a record is kept at each try to write it, and instead of no other one.
#[test]
fn an_answer_is_of_the_errand_that_gave_it() {
    let relay = Relay::new().unwrap();
    let errand = |number| Errand { client: 5, number };
    let told = |text: &[u8]| Turn::Done(text.to_vec());
    assert_eq!(relay.begin_errand(errand(1)), Turn::New);
    let passed = relay.pass_errand().unwrap();
    relay.carry_out(passed, b"the answer".to_vec());
    relay.appending(3, b"pruned");
    // There was no space for it; now there is.
    relay.appending(3, b"pruned");
    relay.appended();
    relay.end_errand();
    assert_eq!(heir(&relay).begin_errand(errand(1)), told(b"the answer"));
    assert_eq!(relay.begin_errand(errand(2)), Turn::New);
    let passed = relay.pass_errand().unwrap();
    relay.carry_out(passed, b"never told".to_vec());
    // Refused.
    relay.end_errand();
    assert_eq!(relay.begin_errand(errand(3)), Turn::New);
    relay.appending(4, b"snap");
    relay.appended();
    relay.end_errand();
    assert_eq!(heir(&relay).begin_errand(errand(3)), told(b"snap"));
}

#[test]
fn a_request_that_was_passed_on_is_one() {
    let relay = Relay::new().unwrap();
    relay.begin(&ask(3));
    let waits = relay.begin_in_pool(&ask(3));
    let found = heir(&relay).asked();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].pooled, "others may be to blame");
    relay.begin(&ask(5));
    assert_eq!(heir(&relay).asked().len(), 2);
    drop(waits);
}

#[test]
fn events_of_the_next_mount_have_greater_numbers() {
    let before = Relay::new().unwrap();
    before.push_event(b"the only one");
    let next = Relay::new().unwrap();
    assert!(next.last_event().1 >= before.last_event().0);
}

#[test]
fn what_was_asked_when_it_died_is_known() {
    let relay = Relay::new().unwrap();
    relay.begin(&ask(3));
    let waits = relay.begin_in_pool(&ask(5));
    drop(relay.begin_in_pool(&ask(7)));
    let told = relay.notify();
    let found: Vec<u64> = heir(&relay).asked().iter().map(|a| a.unique).collect();
    assert_eq!(found, [3, 5]);
    assert_eq!(heir(&relay).notifying().len(), 1);
    drop((waits, told));
    assert_eq!(heir(&relay).asked().len(), 1);
    assert!(heir(&relay).notifying().is_empty());
    relay.clear();
    assert!(heir(&relay).asked().is_empty());
}

#[test]
fn memory_of_another_version_is_left_alone() {
    let relay = Relay::new().unwrap();
    relay.head().version.store(7, Release);
    assert!(Relay::inherit(relay.as_fd().try_clone_to_owned().unwrap()).is_err());
}
