//! Closed queueing networks: how much a server gets done for a number of clients that each wait for
//! their answer.
//!
//! Exact mean value analysis of one class of requests (Reiser and Lavenberg, *Journal of the ACM* 27,
//! 1980): stations with one server and a delay. A station of several servers is taken for a single
//! faster one and a delay (Seidmann, Schweitzer and Shalev-Oren, *IIE Transactions* 19, 1987), which
//! is exact for one request and for very many.

/// A place where requests queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Station {
    /// Seconds that one request needs of it.
    pub demand: f64,
    /// How many requests it serves at once; need not be whole: CPUs under a quota.
    pub servers: f64,
    /// How many such stations there are, of which each request visits one, any of them as likely.
    pub copies: f64,
}

/// Most clients that are computed for; with more, throughput has long stopped growing.
const MOST_CLIENTS: f64 = 4096.0;

/// Requests a second that `clients` get through `stations`, when each also takes `delay` seconds
/// elsewhere. Between two whole numbers of clients it is interpolated.
#[must_use]
pub fn throughput(stations: &[Station], delay: f64, clients: f64) -> f64 {
    let clients = clients.clamp(0.0, MOST_CLIENTS);
    let mut delay = delay.max(0.0);
    // Of each: what one of its copies takes of a request, how many copies, how many wait at one.
    let mut queues: Vec<(f64, f64, f64)> = Vec::with_capacity(stations.len());
    for station in stations {
        let servers = station.servers.max(f64::MIN_POSITIVE);
        let copies = station.copies.max(1.0);
        let each = station.demand.max(0.0) / copies;
        if servers > 1.0 {
            delay += station.demand.max(0.0) * (servers - 1.0) / servers;
        }
        queues.push((each / servers, copies, 0.0));
    }
    let (mut before, mut now, mut count) = (0.0, 0.0, 0.0);
    while count < clients {
        count += 1.0;
        let time: f64 = queues
            .iter()
            .map(|(demand, copies, length)| copies * demand * (1.0 + length))
            .sum::<f64>()
            + delay;
        if time <= 0.0 {
            return f64::INFINITY;
        }
        before = now;
        now = count / time;
        for (demand, _, length) in &mut queues {
            *length = now * *demand * (1.0 + *length);
        }
    }
    let past = count - clients;
    now - (now - before) * past
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    const ONE: Station = Station { demand: 0.01, servers: 1.0, copies: 1.0 };

    #[test]
    fn one_client_waits_for_nobody() {
        assert!(close(throughput(&[ONE], 0.09, 1.0), 10.0));
        assert!(close(throughput(&[ONE], 0.09, 0.5), 5.0));
        assert!(close(throughput(&[ONE], 0.09, 0.0), 0.0));
    }

    #[test]
    fn the_busiest_station_is_the_limit() {
        let slow = Station { demand: 0.02, ..ONE };
        assert!(close(throughput(&[ONE, slow], 0.0, 4000.0), 50.0));
        // Two of them share the work.
        let two = Station { copies: 2.0, ..slow };
        let many = throughput(&[two], 0.0, 4000.0);
        assert!(many > 99.0 && many < 100.0, "{many}");
    }

    #[test]
    fn two_equal_stations_are_as_in_the_book() {
        // Balanced networks: X(n) = n / (D (n + k - 1)) for k stations (Lazowska et al., Quantitative
        // System Performance, 1984, ch. 5).
        for clients in [1.0, 2.0, 7.0] {
            let want = clients / (0.01 * (clients + 1.0));
            assert!(close(throughput(&[ONE, ONE], 0.0, clients), want));
        }
    }

    #[test]
    fn several_servers_are_exact_at_both_ends() {
        let cpus = Station { servers: 2.0, ..ONE };
        assert!(close(throughput(&[cpus], 0.04, 1.0), 20.0));
        let many = throughput(&[cpus], 0.04, 4000.0);
        assert!(many > 199.0 && many <= 200.0, "{many}");
        let half = Station { servers: 0.5, ..ONE };
        assert!(close(throughput(&[half], 0.0, 9.0), 50.0));
    }

    #[test]
    fn what_makes_no_sense_does_no_harm() {
        let odd = Station { demand: -1.0, servers: 0.0, copies: 0.0 };
        let _ = throughput(&[odd], -1.0, f64::NAN);
        assert!(throughput(&[], 0.0, 3.0).is_infinite());
        assert!(throughput(&[ONE], 0.0, 1e12) <= 100.0 + 1e-6);
    }
}
