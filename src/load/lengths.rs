//! S: the iterations of a loop by their length.
//!
//! Those of the threshold and longer are counted one by one. Of shorter ones there are far too many to see
//! each, and a look at a random moment meets a long one more often than a short one: how old iterations
//! were at evenly spaced looks is weighed back. Of ages the density at `a` is the rate of iterations that
//! get longer than `a` (Cox, *Renewal Theory*, 1962, §5.4). It can only fall; so the falling step function is
//! taken that fits the counts best (Grenander's estimator, *Skandinavisk Aktuarietidskrift* 39, 1956, by
//! pooling adjacent violators), and at each of its steps so many iterations end as it falls by. What is not
//! known to a bucket's width (a third of an octave) is put at its end.

use super::lag::nanos;
use crate::model::loop_state::{AGE_BUCKETS, bucket_floor};
use crate::model::{LengthBin, LoopTally};
use crate::units::{Nanos, to_f64};

/// The iterations of one loop that was watched for `watched`, in seconds; `stalls` are the observed lengths
/// of those from `threshold` on, in seconds.
pub(super) fn lengths(
    tally: &LoopTally,
    stalls: &[f64],
    threshold: Nanos,
    watched: f64,
) -> Vec<LengthBin> {
    if watched <= 0.0 {
        return Vec::new();
    }
    let mut all = short(tally, stalls, threshold, watched);
    for bucket in 0..AGE_BUCKETS {
        let (from, to) = (bucket_floor(bucket).max(threshold), bucket_floor(bucket + 1));
        let is_last = bucket + 1 == AGE_BUCKETS;
        let within = |length: &&f64| nanos(**length) >= from && (nanos(**length) < to || is_last);
        let inside: Vec<f64> = stalls.iter().filter(within).copied().collect();
        if to > from && !inside.is_empty() {
            let share = (inside.iter().sum::<f64>() / watched).min(1.0);
            let count = to_f64(inside.len() as u64);
            all.push(LengthBin { from, to, count, share, is_counted: true });
        }
    }
    all
}

/// One stretch of ages: how wide it is, and at what rate iterations outlive it.
#[derive(Clone, Copy)]
struct Step {
    first: usize,
    last: usize,
    width: f64,
    rate: f64,
}

fn short(tally: &LoopTally, stalls: &[f64], threshold: Nanos, watched: f64) -> Vec<LengthBin> {
    let looks = to_f64(tally.looks());
    let stalled = stalls.iter().sum::<f64>() / watched;
    let busy = tally.utilization().unwrap_or(0.0) - stalled;
    if busy <= 0.0 {
        return Vec::new();
    }
    let outlive = to_f64(stalls.len() as u64) / watched;
    let mut steps: Vec<Step> = Vec::new();
    for (bucket, count) in tally.ages.iter().enumerate().take(AGE_BUCKETS) {
        let from = bucket_floor(bucket);
        if from >= threshold {
            break;
        }
        let width = edge(bucket, threshold).saturating_sub(from).as_secs_f64();
        // A bucket that the threshold cuts holds looks at stalls, too, as all do.
        let whole = bucket_floor(bucket + 1).saturating_sub(from).as_secs_f64();
        let density = to_f64(*count) / (looks * whole.max(f64::MIN_POSITIVE));
        let rate = (density - outlive).max(0.0);
        let mut step = Step { first: bucket, last: bucket, width, rate };
        while let Some(before) = steps.pop_if(|before| before.rate < step.rate) {
            let width = before.width + step.width;
            let area = before.rate * before.width + step.rate * step.width;
            step = Step { first: before.first, last: step.last, width, rate: area / width };
        }
        steps.push(step);
    }
    let area: f64 = steps.iter().map(|step| step.rate * step.width).sum();
    if area <= 0.0 {
        return Vec::new();
    }
    // The looks at ages vary by chance as those that count the share of time do; that one is kept.
    let factor = busy / area;
    let next = steps.iter().skip(1).map(|step| step.rate).chain([0.0]);
    let ends = steps.iter().zip(next).filter(|(step, next)| step.rate > *next);
    ends.map(|(step, next)| {
        let (from, to) = (bucket_floor(step.last), edge(step.last, threshold));
        let rate = (step.rate - next) * factor;
        let share = (rate * to.as_secs_f64()).min(1.0);
        LengthBin { from, to, count: rate * watched, share, is_counted: false }
    })
    .collect()
}

/// Where a bucket of ages ends, below the threshold.
fn edge(bucket: usize, threshold: Nanos) -> Nanos {
    bucket_floor(bucket + 1).min(threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Nanos = Nanos::from_millis(10);

    /// A loop that runs iterations of these lengths, in ms, so many a second, seen at a look every 0.1 ms.
    fn tally(iterations: &[(f64, u32)]) -> LoopTally {
        let mut tally = LoopTally::default();
        let mut running: u64 = 0;
        for (length, times) in iterations {
            for _ in 0..*times {
                let mut age = 0.05;
                while age < *length {
                    tally.count_running(nanos(age / 1e3));
                    running += 1;
                    age += 0.1;
                }
            }
        }
        tally.polling = 10_000 - running;
        tally
    }

    fn near(lengths: &[LengthBin], ms: f64) -> f64 {
        let at = nanos(ms / 1e3);
        let span = |one: &&LengthBin| one.to >= at.scaled(7, 10) && one.from <= at.scaled(14, 10);
        lengths.iter().filter(span).map(|one| one.count).sum()
    }

    #[test]
    fn short_iterations_are_told_from_how_old_they_were_met() {
        // 200 of 1 ms and 20 of 6 ms in a second.
        let found = lengths(&tally(&[(1.0, 200), (6.0, 20)]), &[], THRESHOLD, 1.0);
        let (ones, sixes) = (near(&found, 1.0), near(&found, 6.0));
        assert!((150.0..=260.0).contains(&ones), "{found:#?}");
        assert!((14.0..=26.0).contains(&sixes), "{found:#?}");
        assert!(found.iter().all(|one| !one.is_counted));
        let busy: f64 = found.iter().map(|one| one.share).sum();
        assert!((busy - 0.32).abs() < 1e-6, "{busy}");
    }

    #[test]
    fn stalls_are_counted_and_leave_no_trace_among_the_short() {
        let tally = tally(&[(1.0, 200), (100.0, 3)]);
        let found = lengths(&tally, &[0.1, 0.1, 0.1], THRESHOLD, 1.0);
        let counted: Vec<&LengthBin> = found.iter().filter(|one| one.is_counted).collect();
        let [stalls] = &counted[..] else { panic!("{found:#?}") };
        assert!((stalls.count - 3.0).abs() < 1e-9 && (stalls.share - 0.3).abs() < 1e-9);
        assert!(stalls.from <= Nanos::from_millis(100) && Nanos::from_millis(100) < stalls.to);
        let short: f64 = found.iter().filter(|one| !one.is_counted).map(|one| one.share).sum();
        assert!((short - 0.2).abs() < 0.01, "{found:#?}");
        assert!((150.0..=260.0).contains(&near(&found, 1.0)), "{found:#?}");
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert!(lengths(&LoopTally::default(), &[], THRESHOLD, 1.0).is_empty());
        assert!(lengths(&tally(&[(1.0, 10)]), &[], THRESHOLD, 0.0).is_empty());
        let odd =
            lengths(&LoopTally { polling: 9, ..LoopTally::default() }, &[0.5], THRESHOLD, 1.0);
        assert_eq!(odd.len(), 1);
    }
}
