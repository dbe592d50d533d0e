//! What lives in a server's processes, in words, and what to do instead of more workers that would repeat
//! it.
//!
//! Takes a server's load. Never decides whether more workers would help: that is
//! [`size`](super::size)'s.

use std::collections::BTreeMap;

use super::wording;
use crate::model::{Load, Measured, Recommendation, Remedy, Resident, ResidentKind};
use crate::units::to_f64;

/// Most of them named in a sentence.
const MOST_NAMED: usize = 6;

/// What another worker would repeat.
pub fn repeated(load: &Load) -> impl Iterator<Item = &Resident> {
    load.residents.iter().filter(|one| one.kind.is_repeated())
}

/// Whether more workers would repeat anything.
#[must_use]
pub fn is_single(load: &Load) -> bool {
    repeated(load).next().is_some()
}

/// How many of each kind there are: `3 timers and 1 watcher`.
#[must_use]
pub fn in_words<'a>(residents: impl Iterator<Item = &'a Resident>) -> String {
    let counts = counts(residents);
    let words: Vec<String> = { counts.into_iter() }
        .map(|(kind, count)| {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            wording::several(count, kind.title())
                .replace("database written tos", "databases written to")
        })
        .collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// How many of each kind there are.
fn counts<'a>(residents: impl Iterator<Item = &'a Resident>) -> BTreeMap<ResidentKind, u32> {
    let mut counts: BTreeMap<ResidentKind, u32> = BTreeMap::new();
    for one in residents {
        let count = counts.entry(one.kind).or_default();
        *count = count.saturating_add(one.count);
    }
    counts
}

/// The same as figures.
#[must_use]
pub fn measured<'a>(residents: impl Iterator<Item = &'a Resident>) -> Vec<Measured> {
    let figure = |(kind, count): (ResidentKind, u32)| {
        Measured::new(kind.name(), to_f64(u64::from(count)), "count")
    };
    counts(residents).into_iter().map(figure).collect()
}

/// Which they are and where: `refresh at jobs.py:12 every 30.0 s, APScheduler (sync_users)`.
#[must_use]
pub fn named<'a>(residents: impl Iterator<Item = &'a Resident>) -> String {
    let all: Vec<String> = residents.map(name).collect();
    let told: Vec<&str> = all.iter().take(MOST_NAMED).map(String::as_str).collect();
    match all.len().saturating_sub(told.len()) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

fn name(one: &Resident) -> String {
    let at = one.place.as_ref().map_or(String::new(), |place| {
        let file = place.file.rsplit('/').next().unwrap_or(&place.file);
        match place.line {
            Some(line) => format!(" at {file}:{line}"),
            None => format!(" in {file}"),
        }
    });
    let every =
        one.period.map_or(String::new(), |every| format!(" every {}", wording::length(every)));
    let times = if one.count > 1 { format!("{} × ", one.count) } else { String::new() };
    format!("{times}{}{at}{every}", one.name)
}

/// That it lives there: `3 timers and 1 watcher live in it, and more workers would repeat them`.
#[must_use]
pub fn in_each(load: &Load) -> String {
    let is_one = counts(repeated(load)).values().sum::<u32>() == 1;
    format!(
        "{} {} in {}, and more workers would repeat {}",
        in_words(repeated(load)),
        if is_one { "lives" } else { "live" },
        if load.workers.len() > 1 { "each" } else { "it" },
        if is_one { "it" } else { "them" },
    )
}

/// What to do instead of more workers; `then` is what they would be once that is done.
#[must_use]
pub fn instead(load: &Load, then: Recommendation) -> Recommendation {
    let workers = wording::several(load.workers.len().max(1), "worker");
    let are_written = repeated(load).any(|one| one.kind == ResidentKind::SqliteWriter);
    let work = repeated(load).any(|one| one.kind != ResidentKind::SqliteWriter);
    let is_one = counts(repeated(load)).values().sum::<u32>() == 1;
    let mut steps = Vec::new();
    if work {
        steps.push(if is_one {
            "give it a process of its own, or let a lock pick the one worker that runs it"
        } else {
            "give them a process of their own, or let a lock pick the one worker that runs them"
        });
    }
    if are_written {
        steps
            .push("move the data to a database server, as SQLite lets one process write at a time");
    }
    Recommendation {
        remedy: Remedy::Config,
        command: format!(
            "keep {workers}: {}; to have more, {}, then {}",
            in_each(load),
            steps.join("; "),
            then.command
        ),
        reason: format!("each worker more would repeat {}", named(repeated(load))),
        inputs: measured(repeated(load)),
        predicted: then.predicted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ResidentPlace;
    use crate::units::Nanos;

    fn one(kind: ResidentKind, name: &str, count: u32) -> Resident {
        let file = "/srv/app/jobs.py".to_owned();
        let place = Some(ResidentPlace { function: "loop".to_owned(), file, line: Some(12) });
        Resident { kind, name: name.to_owned(), place, count, period: None }
    }

    #[test]
    fn kinds_are_counted_and_things_named() {
        let timer = Resident {
            period: Some(Nanos::from_secs(30)),
            ..one(ResidentKind::Timer, "refresh", 2)
        };
        let other = one(ResidentKind::Timer, "flush", 1);
        let watch = Resident { place: None, ..one(ResidentKind::Watch, "Kubernetes watch", 1) };
        let all = [timer, other, watch];
        assert_eq!(in_words(all.iter()), "3 timers and 1 watcher");
        assert_eq!(
            named(all.iter()),
            "2 × refresh at jobs.py:12 every 30.0 s, flush at jobs.py:12, Kubernetes watch"
        );
        let bases = [
            one(ResidentKind::SqliteWriter, "/srv/a.db", 1),
            one(ResidentKind::SqliteWriter, "/srv/b.db", 1),
        ];
        assert_eq!(in_words(bases.iter()), "2 SQLite databases written to");
        assert_eq!(in_words(bases[..1].iter()), "1 SQLite database written to");
    }

    #[test]
    fn what_is_many_is_cut_short() {
        let many = vec![one(ResidentKind::Timer, "t", 1); MOST_NAMED + 2];
        assert!(named(many.iter()).ends_with(" and 2 more"));
    }
}
