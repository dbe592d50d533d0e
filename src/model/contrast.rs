//! What requests wait for most, in two recordings of one server: what it does when more ask at once.

/// What two recordings tell of a peer.
#[derive(Debug, Clone, PartialEq)]
pub enum Contrast {
    /// It answered more at once as fast.
    All,
    /// It works on so many at once, and others wait their turn.
    Limited(PeerLimit),
    /// They do not tell; what would.
    Untold(&'static str),
}

impl Contrast {
    /// The limit that was found.
    #[must_use]
    pub fn limit(&self) -> Option<&PeerLimit> {
        match self {
            Contrast::Limited(limit) => Some(limit),
            Contrast::All | Contrast::Untold(_) => None,
        }
    }
}

/// A peer that answers no more when more ask.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerLimit {
    /// The peer, `10.0.0.7:5432`; `None` where requests waited for others before: then it is all that they wait for.
    pub peer: Option<String>,
    /// In the recording made earlier.
    pub before: Asked,
    /// In the one that is reported.
    pub now: Asked,
}

impl PeerLimit {
    /// The recording in which fewer asked at once, and the other.
    #[must_use]
    pub fn ordered(&self) -> (Asked, Asked) {
        let Self { before, now, .. } = *self;
        if now.at_once() < before.at_once() { (now, before) } else { (before, now) }
    }

    /// The most requests a second that it was seen to let through.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.before.rate.max(self.now.rate)
    }

    /// How many it works on at once (Little): what it lets through, each for as long as it takes where fewer ask. That is
    /// an upper bound: some may have waited there, too.
    #[must_use]
    pub fn servers(&self) -> f64 {
        self.rate() * self.ordered().0.each
    }

    /// The share of what it can do that it does now.
    #[must_use]
    pub fn used(&self) -> f64 {
        (self.now.rate / self.rate().max(f64::MIN_POSITIVE)).min(1.0)
    }

    /// The room that was seen to be enough for all that it lets through: where fewer asked as much got done. It may be
    /// more than it takes.
    #[must_use]
    pub fn enough(&self) -> Option<u32> {
        let (few, _) = self.ordered();
        few.room.filter(|_| few.rate >= self.rate() * AS_MUCH)
    }

    /// What it is called in sentences.
    #[must_use]
    pub fn name(&self) -> &str {
        self.peer.as_deref().unwrap_or("their database or API")
    }
}

/// What gets this part of the most done gets as much done: throughput varies by the rest from one recording to the next.
const AS_MUCH: f64 = 0.95;

/// How a server's requests waited for a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Requests that got done, a second.
    pub rate: f64,
    /// Seconds that each waited for it, on average.
    pub each: f64,
    /// How many requests there was room for at once, in all workers: threads, tokens of a pool, connections of a hub.
    pub room: Option<u32>,
}

impl Asked {
    /// How many waited for it at once, on average (Little).
    #[must_use]
    pub fn at_once(&self) -> f64 {
        self.rate * self.each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_works_on_is_by_the_shorter_wait_and_the_higher_rate() {
        let few = Asked { rate: 48.0, each: 0.08, room: Some(4) };
        let many = Asked { rate: 100.0, each: 0.42, room: Some(60) };
        for (before, now, used) in [(few, many, 1.0), (many, few, 0.48)] {
            let limit = PeerLimit { peer: None, before, now };
            assert!((limit.servers() - 8.0).abs() < 1e-9, "{limit:?}");
            assert_eq!(limit.ordered(), (few, many));
            assert!((limit.used() - used).abs() < 1e-9, "{limit:?}");
            assert_eq!(limit.enough(), None);
        }
    }

    #[test]
    fn a_size_that_got_as_much_done_is_enough() {
        let few = Asked { rate: 97.0, each: 0.2, room: Some(20) };
        let many = Asked { rate: 100.0, each: 0.6, room: Some(80) };
        assert_eq!(PeerLimit { peer: None, before: many, now: few }.enough(), Some(20));
        let less = Asked { rate: 90.0, ..few };
        assert_eq!(PeerLimit { peer: None, before: less, now: many }.enough(), None);
    }
}
