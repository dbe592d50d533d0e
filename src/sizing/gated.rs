//! How long an event waits until an event loop polls again, when slow calls arrive at random.
//!
//! An event loop is a queue with gates: an iteration handles what was ready when it began, and whatever
//! arrives meanwhile waits for the next (gated service; Takagi, *Analysis of Polling Systems*, 1986). So calls
//! pile up behind a long one, and the next iteration is long for their sake. Pollaczek and Khinchine's formula
//! gives the mean of the wait of M/G/1, λ·E\[S²\] / 2(1 - ρ), whatever the order of service. The lengths of gated
//! iterations have no closed distribution, and so quantiles are found by playing them: slow calls are drawn
//! one by one (Poisson, at the measured rates and lengths) from a generator that always begins alike, and what
//! short callbacks take is added to each iteration in proportion to the time in which they arrived. An event
//! meets iterations of lengths s for more than t in a share Σ (s - t)⁺ / T of the time.

use crate::units::to_f64;

/// Events of one length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Events {
    /// How many arrive in a second.
    pub rate: f64,
    /// How long the loop handles one, in seconds.
    pub length: f64,
}

impl Events {
    fn busy(&self) -> f64 {
        self.rate * self.length
    }
}

/// A loop: slow calls, and short iterations.
#[derive(Debug, Clone, PartialEq)]
pub struct Gated {
    /// ρ: the share of the time it is busy.
    pub busy: f64,
    /// The mean wait of an event for its own turn by Pollaczek and Khinchine, in seconds; infinite where more
    /// arrives than can be handled.
    pub mean_wait: f64,
    short: Vec<Events>,
    /// The lengths of the iterations played, in descending order, and the time they were played for.
    played: Vec<f64>,
    time: f64,
}

/// Busy stretches that are played: the chance that a hundredth of the events meets is then known to some
/// per cent.
const STRETCHES: u32 = 20_000;
/// Most iterations in one stretch, should the loop be about to be overloaded.
const MOST_ITERATIONS: u32 = 10_000;
/// Most events that are drawn for all of them. A loop that is busy for 97 % of the time needs no more; one
/// that is busier has stretches so long that fewer tell, and without a limit some would take minutes.
const MOST_EVENTS: u32 = 500_000;
/// Iterations of short callbacks that piled up are followed down to this length: what is shorter was
/// measured.
const SHORT: f64 = 0.001;
/// Steps of the bisection for a quantile.
const STEPS: u32 = 60;

impl Gated {
    /// A loop that has these slow calls and these short iterations to handle.
    #[must_use]
    pub fn of(slow: &[Events], short: &[Events]) -> Gated {
        let valid = |all: &[Events]| -> Vec<Events> {
            let is_valid = |one: &&Events| {
                one.rate > 0.0 && one.length > 0.0 && (one.rate * one.length).is_finite()
            };
            all.iter().filter(is_valid).copied().collect()
        };
        let (slow, short) = (valid(slow), valid(short));
        let both = || slow.iter().chain(&short);
        let busy: f64 = both().map(Events::busy).sum();
        let residual: f64 = both().map(|one| one.busy() * one.length / 2.0).sum();
        let mean_wait = if busy < 1.0 { residual / (1.0 - busy) } else { f64::INFINITY };
        let mut gated = Gated { busy, mean_wait, short, played: Vec::new(), time: 0.0 };
        if busy < 1.0 && !slow.is_empty() {
            gated.play(&slow);
        }
        gated
    }

    /// The delay until the loop polls again that a share `q` of events does not exceed, in seconds; infinite
    /// where the loop never catches up.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        if self.busy >= 1.0 {
            return f64::INFINITY;
        }
        let rest = 1.0 - q;
        if self.busy <= rest {
            return 0.0;
        }
        let longest = self.short.iter().map(|one| one.length).fold(0.0, f64::max);
        let (mut low, mut high) = (0.0, self.played.first().copied().unwrap_or(0.0).max(longest));
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if self.longer(middle) > rest { low = middle } else { high = middle }
        }
        high
    }

    /// The share of events that wait for more than `seconds`.
    fn longer(&self, seconds: f64) -> f64 {
        let long = self.played.iter().take_while(|length| **length > seconds);
        let in_played: f64 = long.map(|length| length - seconds).sum();
        let short = self.short.iter().filter(|one| one.length > seconds);
        let in_short: f64 = short.map(|one| one.rate * (one.length - seconds)).sum();
        in_short + if self.time > 0.0 { in_played / self.time } else { 0.0 }
    }

    fn play(&mut self, slow: &[Events]) {
        let rate: f64 = slow.iter().map(|one| one.rate).sum();
        let fluid: f64 = self.short.iter().map(Events::busy).sum();
        let (mut dice, mut drawn) = (Dice(1), 0_u32);
        for _ in 0..STRETCHES {
            if drawn >= MOST_EVENTS {
                break;
            }
            drawn = drawn.saturating_add(1);
            self.time += 1.0 / rate;
            let mut length = dice.draw(slow, rate);
            for _ in 0..MOST_ITERATIONS {
                self.time += length;
                self.played.push(length);
                // What arrived meanwhile is what the next iteration handles.
                let (mut at, mut next) = (dice.pause(rate), fluid * length);
                while at < length && drawn < MOST_EVENTS {
                    next += dice.draw(slow, rate);
                    at += dice.pause(rate);
                    drawn = drawn.saturating_add(1);
                }
                if next < SHORT || drawn >= MOST_EVENTS {
                    break;
                }
                length = next;
            }
        }
        self.played.sort_by(|a, b| b.total_cmp(a));
    }
}

/// Random numbers that are the same in each run (splitmix64; Steele, Lea and Flood, OOPSLA 2014).
struct Dice(u64);

impl Dice {
    /// Between 0 and 1, neither of them.
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (to_f64((bits ^ (bits >> 31)) >> 11) + 0.5) / to_f64(1 << 53)
    }

    /// The time to the next arrival.
    fn pause(&mut self, rate: f64) -> f64 {
        -self.roll().ln() / rate
    }

    /// The length of one of these events, each as likely as it is frequent.
    fn draw(&mut self, events: &[Events], rate: f64) -> f64 {
        let mut left = self.roll() * rate;
        for one in events {
            left -= one.rate;
            if left <= 0.0 {
                return one.length;
            }
        }
        events.last().map_or(0.0, |one| one.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p99(slow: &[(f64, f64)], short: (f64, f64)) -> f64 {
        let events = |(rate, length): (f64, f64)| Events { rate, length };
        let slow: Vec<Events> = slow.iter().map(|one| events(*one)).collect();
        Gated::of(&slow, &[events(short)]).quantile(0.99)
    }

    fn close(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() <= by * b.abs(), "{a} is not {b}");
    }

    #[test]
    fn delays_are_those_of_a_loop_that_was_simulated_event_by_event() {
        // 20,000 s of two kinds of calls and 50 events of 1 ms a second, every event with its own arrival.
        close(p99(&[(2.0, 0.12), (4.0, 0.04)], (50.0, 0.001)), 0.175, 0.05);
        close(p99(&[(4.0, 0.04)], (50.0, 0.001)), 0.038, 0.08);
        close(p99(&[(2.0, 0.12), (6.0, 0.06)], (50.0, 0.001)), 0.305, 0.05);
        close(p99(&[(6.0, 0.06)], (50.0, 0.001)), 0.104, 0.08);
        close(p99(&[(2.0, 0.15), (4.0, 0.1)], (50.0, 0.001)), 0.62, 0.1);
        close(p99(&[(4.0, 0.1)], (50.0, 0.001)), 0.19, 0.08);
    }

    #[test]
    fn the_mean_wait_is_that_of_pollaczek_and_khinchine() {
        // M/D/1 at ρ = 0.5: half of the length.
        let gated = Gated::of(&[Events { rate: 5.0, length: 0.1 }], &[]);
        close(gated.busy, 0.5, 1e-9);
        close(gated.mean_wait, 0.05, 1e-9);
    }

    #[test]
    fn short_iterations_alone_wait_for_what_is_left_of_them() {
        // 100 of 4 ms a second: one in a hundred meets more than t where 100 (0.004 - t) = 0.01.
        let gated = Gated::of(&[], &[Events { rate: 100.0, length: 0.004 }]);
        close(gated.quantile(0.99), 0.0039, 0.01);
        assert_eq!(gated.quantile(0.5), 0.0);
    }

    #[test]
    fn a_loop_that_is_all_but_overloaded_is_not_played_for_ever() {
        let gated = Gated::of(&[Events { rate: 10.0, length: 0.099_99 }], &[]);
        assert!(gated.played.len() <= MOST_EVENTS as usize);
        assert!(gated.quantile(0.99) > 1.0 && gated.quantile(0.99).is_finite());
    }

    #[test]
    fn who_has_too_much_to_do_keeps_them_waiting_for_ever() {
        let gated = Gated::of(&[Events { rate: 10.0, length: 0.1 }], &[]);
        assert!(gated.mean_wait.is_infinite() && gated.quantile(0.5).is_infinite());
        let idle = Gated::of(&[], &[]);
        assert_eq!((idle.busy, idle.mean_wait, idle.quantile(0.99)), (0.0, 0.0, 0.0));
        let odd = Gated::of(&[Events { rate: f64::NAN, length: -1.0 }], &[]);
        assert_eq!(odd.quantile(0.99), 0.0);
    }
}
