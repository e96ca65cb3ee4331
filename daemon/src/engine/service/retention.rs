//! Which snapshots retention gives up.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;
use llctl::config::{AUTOMATIC_MAX, AppliesTo, Retention, is_automatic};
use llctl::protocol::{SnapMeta, UnixNanos};

use crate::tree::StateId;

/// What the rules look at of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub id: StateId,
    pub created: UnixNanos,
    pub meta: &'a SnapMeta,
}

/// Whether the rules may give a snapshot up at all.
pub(super) fn applies(rules: &Retention, meta: &SnapMeta) -> bool {
    let tagged = rules.keep_tagged && !meta.tags.is_empty();
    // What was imported is as old as where it was taken, which says nothing here.
    let foreign = meta.imported.is_some();
    !meta.pinned
        && !foreign
        && !tagged
        && (rules.applies_to == AppliesTo::All || is_automatic(meta))
}

/// What goes, oldest first. `all` are all snapshots, oldest first; `held` says how many bytes some of them hold together that
/// nothing else holds, if it is known.
pub(super) fn going(
    all: &[Candidate<'_>],
    rules: &Retention,
    now: UnixNanos,
    zone: &TimeZone,
    held: &mut dyn FnMut(&BTreeSet<StateId>) -> Option<u64>,
) -> Vec<StateId> {
    let ours: Vec<&Candidate<'_>> = (all.iter().filter(|c| applies(rules, c.meta))).collect();
    let mut keep: BTreeSet<StateId> = BTreeSet::new();
    let newest = |count: u32| ours.iter().rev().take(count as usize);
    keep.extend(newest(rules.keep_last).map(|c| c.id));
    if let Some(span) = rules.keep_for {
        let age = i64::try_from(span.get().as_nanos()).unwrap_or(i64::MAX);
        let since = now.0.saturating_sub(age);
        keep.extend(ours.iter().filter(|c| c.created.0 >= since).map(|c| c.id));
    }
    for (rungs, form) in [(rules.hourly, "%F %H %z"), (rules.daily, "%F")] {
        let mut seen = BTreeSet::new();
        for candidate in ours.iter().rev() {
            if seen.len() == rungs as usize {
                break;
            }
            let local = candidate.created.timestamp().to_zoned(zone.clone());
            if seen.insert(local.strftime(form).to_string()) {
                keep.insert(candidate.id);
            }
        }
    }
    let mut kept: Vec<StateId> = keep.into_iter().collect();
    let excess = kept.len().saturating_sub(AUTOMATIC_MAX as usize);
    kept.drain(..excess);
    if let Some(max) = rules.max_size {
        let excess = too_much(&kept, max.0, held);
        kept.drain(..excess);
    }
    let kept: BTreeSet<StateId> = kept.into_iter().collect();
    let going = ours.iter().map(|c| c.id);
    going.filter(|id| !kept.contains(id)).collect()
}

/// How many of the oldest must go, so that the others hold at most `max` bytes. Fewer never hold more, so the number is
/// halved in on. The newest stays; where it is not known what they hold, all do.
fn too_much(
    kept: &[StateId],
    max: u64,
    held: &mut dyn FnMut(&BTreeSet<StateId>) -> Option<u64>,
) -> usize {
    let mut fits = |gone: usize| {
        let rest = kept[gone..].iter().copied().collect();
        held(&rest).is_none_or(|bytes| bytes <= max)
    };
    if kept.is_empty() || fits(0) {
        return 0;
    }
    // So many are too few, and so many are enough.
    let (mut few, mut enough) = (0, kept.len() - 1);
    while enough - few > 1 {
        let middle = few + (enough - few) / 2;
        match fits(middle) {
            true => enough = middle,
            false => few = middle,
        }
    }
    enough
}

#[cfg(test)]
mod tests {
    use super::*;
    use llctl::config::{Size, Span};

    const HOUR: i64 = 3600;
    /// 2026-11-21 12:00:00 UTC.
    const NOON: i64 = 1_795_262_400;

    fn automatic() -> SnapMeta {
        SnapMeta {
            reason: Some("automatic".to_owned()),
            ..SnapMeta::default()
        }
    }

    /// Snapshots of these ages in seconds, numbered from 1 on, oldest first.
    fn given(ages: &[i64], metas: &[SnapMeta], rules: &Retention, each: u64) -> Vec<StateId> {
        let all: Vec<Candidate<'_>> = (ages.iter().enumerate())
            .map(|(at, age)| Candidate {
                id: at as StateId + 1,
                created: UnixNanos((NOON - age) * 1_000_000_000),
                meta: &metas[at % metas.len()],
            })
            .collect();
        let now = UnixNanos(NOON * 1_000_000_000);
        going(&all, rules, now, &TimeZone::UTC, &mut |set| {
            Some(set.len() as u64 * each)
        })
    }

    #[test]
    fn each_rule_keeps_what_it_says() {
        let metas = [automatic()];
        let ages = [
            50 * HOUR,
            49 * HOUR,
            26 * HOUR,
            3 * HOUR,
            2 * HOUR + 60,
            HOUR,
            90,
            60,
        ];
        let nothing = Retention::nothing();
        assert_eq!(given(&ages, &metas, &nothing, 0), [1, 2, 3, 4, 5, 6, 7, 8]);
        let rules = Retention {
            keep_last: 3,
            ..Retention::nothing()
        };
        assert_eq!(given(&ages, &metas, &rules, 0), [1, 2, 3, 4, 5]);
        let rules = Retention {
            keep_for: Some(Span::from_secs(2 * 3600)),
            ..Retention::nothing()
        };
        assert_eq!(given(&ages, &metas, &rules, 0), [1, 2, 3, 4, 5]);
        // Two in the hour of nine, three in that of eleven, one of yesterday.
        let rules = Retention {
            hourly: 3,
            ..Retention::nothing()
        };
        assert_eq!(given(&ages, &metas, &rules, 0), [1, 2, 4, 6, 7]);
        let rules = Retention {
            daily: 2,
            ..Retention::nothing()
        };
        assert_eq!(given(&ages, &metas, &rules, 0), [1, 2, 4, 5, 6, 7]);
        // What any of them keeps is kept.
        let rules = Retention {
            daily: 2,
            hourly: 3,
            keep_last: 2,
            ..Retention::nothing()
        };
        assert_eq!(given(&ages, &metas, &rules, 0), [1, 2, 4, 6]);
    }

    #[test]
    fn a_clock_that_jumps_gives_up_no_more_than_the_rules() {
        let metas = [automatic()];
        // Taken in this order: a day ahead, an hour ago, in 1931, two days ago, now.
        let ages = [-24 * HOUR, HOUR, 95 * 365 * 24 * HOUR, 48 * HOUR, 0];
        let with = |rules: Retention| given(&ages, &metas, &rules, 0);
        let ladder = |hourly, daily| Retention {
            hourly,
            daily,
            ..Retention::nothing()
        };
        // The newest are those that were taken last, whatever their clocks said.
        assert_eq!(with(ladder(2, 0)), [1, 2, 3]);
        assert_eq!(with(ladder(5, 0)), [0; 0]);
        // An hour ago is the day of now.
        assert_eq!(with(ladder(0, 5)), [2]);
        let last = Retention {
            keep_last: 2,
            ..Retention::nothing()
        };
        assert_eq!(with(last), [1, 2, 3]);
        // What is of the future is not older than anything.
        let young = Retention {
            keep_for: Some(Span::from_secs(2 * 3600)),
            ..Retention::nothing()
        };
        assert_eq!(with(young), [3, 4]);
        // A clock that stands: one hour, of which the last one stays.
        assert_eq!(given(&[7; 30], &metas, &ladder(9, 9), 0).len(), 29);
    }

    #[test]
    fn what_was_asked_for_stays() {
        let pinned = SnapMeta {
            pinned: true,
            ..automatic()
        };
        let tagged = SnapMeta {
            tags: ["good".to_owned()].into(),
            ..automatic()
        };
        let metas = [SnapMeta::default(), automatic(), pinned, tagged];
        let ages = [400, 300, 200, 100];
        let mut rules = Retention::nothing();
        assert_eq!(given(&ages, &metas, &rules, 0), [2]);
        rules.keep_tagged = false;
        assert_eq!(given(&ages, &metas, &rules, 0), [2, 4]);
        rules.applies_to = AppliesTo::All;
        assert_eq!(given(&ages, &metas, &rules, 0), [1, 2, 4]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let ages: Vec<i64> = (0..100).rev().collect();
        let rules = |max| Retention {
            keep_last: 90,
            max_size: Some(Size(max)),
            ..Retention::nothing()
        };
        let gone = |max| given(&ages, &[automatic()], &rules(max), 10).len();
        assert_eq!(gone(10_000), 10);
        for fit in [1, 2, 33, 89, 90] {
            assert_eq!(gone(fit * 10), 100 - fit as usize, "{fit} fit");
            assert_eq!(gone(fit * 10 + 9), 100 - fit as usize, "{fit} fit");
        }
        assert_eq!(gone(0), 99, "the newest stays");
    }

    /// A clock that jumps far ahead or back changes what is old, and never which are the newest.
    #[test]
    fn a_clock_that_jumps_never_costs_the_newest() {
        let year = 365 * 24 * HOUR;
        let rules = Retention {
            keep_last: 3,
            keep_for: Some(Span::from_secs(3600)),
            hourly: 2,
            ..Retention::nothing()
        };
        let metas = [automatic()];
        // Back: older ones are from the future.
        let back = [-40 * year, -30 * year, -2 * HOUR, 90, 60, 30];
        let gone = given(&back, &metas, &rules, 0);
        assert_eq!(
            gone,
            Vec::<StateId>::new(),
            "all are younger than an hour, or seem so"
        );
        // Ahead: all are old.
        let ahead = [
            50 * year,
            40 * year + 30,
            40 * year + 20,
            40 * year + 10,
            40 * year,
        ];
        let gone = given(&ahead, &metas, &rules, 0);
        assert_eq!(gone, [1, 2], "the newest three stay");
        // Before 1970, and beyond what a number of nanoseconds can say.
        for far in [NOON + 5 * year, -5_000_000_000] {
            let ages = [far, far, far, far, far];
            let gone = given(&ages, &metas, &rules, 0);
            assert!(gone.len() <= 2 && !gone.contains(&5), "{gone:?}");
        }
    }

    #[test]
    fn automatic_ones_are_bounded_whatever_the_rules() {
        let ages: Vec<i64> = (0..10_050).rev().map(|n| n * 60).collect();
        let rules = Retention {
            keep_for: Some(Span::from_secs(365 * 24 * 3600)),
            ..Retention::nothing()
        };
        assert_eq!(given(&ages, &[automatic()], &rules, 0).len(), 50);
    }
}
