//! How much a place where requests queue gets done for a number of clients that each wait for their
//! answer.
//!
//! The machine repairman's model, M/M/c//n (Kleinrock, *Queueing Systems* I, 1975, §3.8): each of `n`
//! clients is away for some time on average, then comes to a station of `c` servers, and leaves again.
//! Servers need not be whole: CPUs under a quota are not. Between two whole numbers of clients it is
//! interpolated.

/// A place where requests queue, and what else they take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Station {
    /// Seconds that one request needs of it.
    pub demand: f64,
    /// How many requests it serves at once.
    pub servers: f64,
    /// Seconds that a request takes elsewhere, without queueing.
    pub away: f64,
}

/// Most clients that are computed for; with more, throughput has long stopped growing.
const MOST_CLIENTS: f64 = 4096.0;
/// Probabilities are kept up to a factor, and scaled down before they grow out of range.
const LARGE: f64 = 1e200;

impl Station {
    /// Requests a second that `clients` get done here; infinite where nothing takes any time.
    #[must_use]
    pub fn throughput(&self, clients: f64) -> f64 {
        let clients = clients.clamp(0.0, MOST_CLIENTS);
        let (low, high) = (self.whole(clients.floor()), self.whole(clients.ceil()));
        if low.is_infinite() || high.is_infinite() {
            return high;
        }
        low + (high - low) * (clients - clients.floor())
    }

    fn whole(&self, clients: f64) -> f64 {
        if clients < 1.0 {
            return 0.0;
        }
        let (demand, away) = (self.demand.max(0.0), self.away.max(0.0));
        let servers = self.servers.max(f64::MIN_POSITIVE);
        if demand <= 0.0 {
            return if away > 0.0 { clients / away } else { f64::INFINITY };
        }
        if away <= 0.0 {
            return clients.min(servers) / demand;
        }
        // How likely it is that `present` clients are here, up to a factor; and how many leave then.
        let (mut likely, mut all, mut leaving, mut present) = (1.0, 1.0, 0.0, 0.0);
        while present < clients {
            let coming = (clients - present) / away;
            present += 1.0;
            let rate = servers.min(present) / demand;
            likely *= coming / rate;
            all += likely;
            leaving += likely * rate;
            if all > LARGE {
                likely /= LARGE;
                all /= LARGE;
                leaving /= LARGE;
            }
        }
        leaving / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    const ONE: Station = Station { demand: 0.01, servers: 1.0, away: 0.09 };

    #[test]
    fn one_client_waits_for_nobody() {
        assert!(close(ONE.throughput(1.0), 10.0));
        assert!(close(ONE.throughput(0.5), 5.0));
        assert!(close(ONE.throughput(0.0), 0.0));
    }

    #[test]
    fn the_servers_are_the_limit_of_many() {
        let many = ONE.throughput(4000.0);
        assert!(many > 99.9 && many <= 100.0 + 1e-6, "{many}");
        let two = Station { servers: 2.0, ..ONE }.throughput(4000.0);
        assert!(two > 199.9 && two <= 200.0 + 1e-6, "{two}");
        // Without time elsewhere, all who are there are served or queue.
        let busy = Station { servers: 1.5, away: 0.0, ..ONE };
        assert!(close(busy.throughput(1.0), 100.0) && close(busy.throughput(9.0), 150.0));
    }

    #[test]
    fn two_clients_of_one_server_are_as_computed_by_hand() {
        // Rates 1 and 1: states 0, 1, 2 are as likely as 1 : 2 : 2, so the server works 4/5 of the time.
        let even = Station { demand: 1.0, servers: 1.0, away: 1.0 };
        assert!(close(even.throughput(2.0), 0.8));
    }

    #[test]
    fn what_makes_no_sense_does_no_harm() {
        let odd = Station { demand: -1.0, servers: 0.0, away: -1.0 };
        let _ = odd.throughput(f64::NAN);
        assert!(Station { demand: 0.0, servers: 1.0, away: 0.0 }.throughput(3.0).is_infinite());
        assert!(ONE.throughput(1e12).is_finite());
        assert!(Station { away: 1e6, ..ONE }.throughput(4096.0).is_finite());
        assert!(Station { away: 1e-9, ..ONE }.throughput(4096.0) <= 100.0 + 1e-6);
    }
}
