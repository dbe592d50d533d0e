//! How long a worker may go without a sign of life before whoever watches over it kills it, and what of its
//! work keeps it from giving one.
//!
//! Takes a recording and the server's configuration, gives a [`Deadline`]. Never looks at stalls.
//!
//! gunicorn's arbiter looks once a second and kills a worker whose last sign is older than `timeout`: first by
//! SIGABRT, a round later by SIGKILL (`murder_workers`,
//! <https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/arbiter.py#L493>; the same from 19 to 27). Who gives
//! the sign differs: a sync worker between two requests, gthread's main thread, the loop or hub of the others.
//!
//! uvicorn's supervisor asks each worker of `--workers` twice a second, from 0.30 on, and kills it unless a thread
//! of its own answers in time (`keep_subprocess_alive`,
//! <https://github.com/encode/uvicorn/blob/0.38.0/uvicorn/supervisors/multiprocess.py>): a loop that is blocked
//! keeps no thread from that, a call that holds the interpreter lock does.

use super::Case;
use crate::model::{ProcessInfo, Recording, Role, SettingSource, SettingValue, WorkerClass};
use crate::units::{Nanos, whole};

/// What of a worker's work keeps it from giving a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// A request: the sign is given between two.
    Request,
    /// An iteration of its event loop.
    Iteration,
    /// A call that holds the interpreter lock: another thread gives the sign.
    LockHeld,
}

/// Whoever kills workers that give no sign of life.
#[derive(Debug, PartialEq, Eq)]
pub struct Supervisor {
    /// The server's name.
    pub name: &'static str,
    /// The setting that says after how long.
    pub setting: &'static str,
    /// Its options, the long one first.
    pub options: &'static [&'static str],
    /// Its default, in seconds.
    default: i64,
}

static GUNICORN: Supervisor =
    Supervisor { name: "gunicorn", setting: "timeout", options: &["--timeout", "-t"], default: 30 };
static UVICORN: Supervisor = Supervisor {
    name: "uvicorn",
    setting: "timeout_worker_healthcheck",
    options: &["--timeout-worker-healthcheck"],
    default: 5,
};

/// The first uvicorn whose supervisor asks its workers
/// (<https://github.com/encode/uvicorn/blob/0.30.0/CHANGELOG.md>), and the first that can be told for how long
/// to wait (0.37). In between it waits for 5 s.
const ASKS_FROM: (u32, u32) = (0, 30);

/// How often a worker gives its sign of life while nothing keeps it from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Right before what may keep it from the next one: a sync worker before it takes a request; who is asked,
    /// when he is.
    Before,
    /// Once a second: gthread's main thread (`gthread.py`, `run`), gevent and eventlet (`run`), tornado
    /// (`watchdog`, a `PeriodicCallback` of 1000 ms), gunicorn's own `asgi` (`_serve`) and
    /// aiohttp's class (`_wait_next_notify`).
    EachSecond,
    /// Each half of the timeout: `UvicornWorker`, as `timeout_notify` is `Worker.timeout`, which is that half
    /// (<https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/workers.py#L49>).
    EachHalf,
}

/// How late uvicorn's server is with its sign: `Server.main_loop` looks that often whether it is due
/// (<https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/server.py#L222>).
const UVICORNS_ROUND: Nanos = Nanos::from_millis(100);

impl Sign {
    /// How old the last sign gets while nothing keeps it from the next.
    #[must_use]
    pub fn every(self, timeout: Nanos) -> Nanos {
        match self {
            Sign::Before => Nanos::ZERO,
            // Whoever has so short a timeout is killed for nothing.
            Sign::EachSecond => Nanos::from_secs(1).min(timeout.scaled(1, 2)),
            Sign::EachHalf => timeout.scaled(1, 2) + UVICORNS_ROUND,
        }
    }
}

/// After how long a worker is killed.
#[derive(Debug, Clone, PartialEq)]
pub struct Deadline {
    /// By whom.
    pub supervisor: &'static Supervisor,
    /// After so long without a sign.
    pub timeout: Nanos,
    /// How often it gives one.
    pub sign: Sign,
    /// What keeps it from that.
    pub silence: Silence,
    /// Where the timeout is set.
    pub place: String,
    /// Whether that server can be told another one.
    pub can_change: bool,
}

/// What is known of a worker's deadline.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// Nobody kills it for its silence.
    None,
    /// Somebody may, but it is not known after how long.
    Unknown,
    /// This one.
    Some(Deadline),
}

impl Deadline {
    /// The deadline of a worker.
    #[must_use]
    pub fn of(case: &Case<'_>, process: &ProcessInfo) -> Known {
        if process.topology.role != Role::Worker {
            return Known::None;
        }
        let load = case.load_of(process.pid);
        let (supervisor, (silence, sign)): (&Supervisor, _) = match process.topology.server.as_str()
        {
            "gunicorn" if is_for_long_tasks(case.recording, process) => return Known::None,
            "gunicorn" => match of_class(process.topology.class) {
                Some(how) => (&GUNICORN, how),
                None => return Known::Unknown,
            },
            "uvicorn" => (&UVICORN, (Silence::LockHeld, Sign::Before)),
            _ => return Known::None,
        };
        let config = load.map_or(&process.config, |load| &load.config);
        let set = config.get(supervisor.setting);
        let seconds = set.and_then(|setting| match setting.value {
            SettingValue::Number(value) => Some(value),
            _ => None,
        });
        let seconds = match (seconds, supervisor == &UVICORN) {
            (Some(seconds), _) => seconds,
            (None, true) if asks(process) => supervisor.default,
            (None, true) => return Known::None,
            (None, false) => return Known::Unknown,
        };
        let Some(timeout) = u32::try_from(seconds).ok().filter(|seconds| *seconds > 0) else {
            return Known::None;
        };
        let timeout = Nanos::from_secs(u64::from(timeout));
        Known::Some(Deadline {
            supervisor,
            timeout,
            silence,
            sign,
            place: supervisor.place(seconds, set.map(|set| set.source), &process.command),
            can_change: set.is_some(),
        })
    }

    /// The shortest silence that may cost it its life: its last sign is as old as it gets when that begins.
    #[must_use]
    pub fn least(&self) -> Nanos {
        self.timeout.saturating_sub(self.sign.every(self.timeout))
    }

    /// The longest, in seconds, that a call may take of which a silence of `length` had a `part`, for that to be less than
    /// a `share` of what may cost the worker its life: all parts of it get shorter alike.
    #[must_use]
    pub fn call_timeout(&self, part: Nanos, length: Nanos, share: f64) -> f64 {
        let room = self.least().as_secs_f64() * share * part.share_of(length).min(1.0);
        // In figures that people write; where that is all of the room, one less.
        let steps = if room > 2.0 { 1.0 } else { 10.0 };
        ((room * steps).ceil() - 1.0).max(1.0) / steps
    }

    /// The timeout, in seconds, under which a silence of `length` is a `share` of what may cost it its life.
    #[must_use]
    pub fn timeout_for(&self, length: Nanos, share: f64) -> u32 {
        let least = length.as_secs_f64() / share;
        whole(match self.sign {
            Sign::Before => least.ceil(),
            Sign::EachSecond => (least + 1.0).ceil(),
            Sign::EachHalf => (2.0 * (least + UVICORNS_ROUND.as_secs_f64())).ceil(),
        })
    }
}

impl Supervisor {
    /// Where its setting of so many seconds comes from, as far as can be told: values read from memory are in force,
    /// whoever set them.
    fn place(&self, seconds: i64, source: Option<SettingSource>, command: &str) -> String {
        let gives = |word: &str| {
            self.options.iter().any(|option| {
                let rest = word.strip_prefix(option);
                // `-t30`, but not `-threads`.
                rest.is_some_and(|rest| {
                    rest.is_empty() || rest.trim_start_matches('=').parse::<u32>().is_ok()
                })
            })
        };
        let is_given = command.split(' ').any(gives);
        match source {
            Some(SettingSource::Environment) => "in the environment".to_owned(),
            Some(SettingSource::CommandLine) => "on the command line".to_owned(),
            _ if is_given => "on the command line".to_owned(),
            _ if seconds == self.default => "its default".to_owned(),
            _ => "in its configuration".to_owned(),
        }
    }
}

/// What keeps a worker of gunicorn's from its sign, and how often it gives one; `None` of a class that is not known.
fn of_class(class: WorkerClass) -> Option<(Silence, Sign)> {
    Some(match class {
        WorkerClass::Sync => (Silence::Request, Sign::Before),
        WorkerClass::Gthread => (Silence::LockHeld, Sign::EachSecond),
        WorkerClass::Uvicorn => (Silence::Iteration, Sign::EachHalf),
        WorkerClass::Gevent
        | WorkerClass::Eventlet
        | WorkerClass::Tornado
        | WorkerClass::Asgi
        | WorkerClass::Asyncio => (Silence::Iteration, Sign::EachSecond),
        _ => return None,
    })
}

/// Whether this uvicorn's supervisor asks its workers.
fn asks(process: &ProcessInfo) -> bool {
    let version = process.topology.server_version.as_deref().unwrap_or_default();
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    parts.next().zip(parts.next()).is_some_and(|release| release >= ASKS_FROM)
}

/// Whether it is a worker of the process that gunicorn, from 25 on, has for long tasks: it goes by a timeout of its
/// own (`dirty_timeout`). That process is a child of the master, and its workers run a loop of asyncio's.
fn is_for_long_tasks(recording: &Recording, process: &ProcessInfo) -> bool {
    let is_master = |one: &&ProcessInfo| one.topology.role == Role::Master;
    let master = |pid| recording.get_process(pid).filter(is_master);
    process.topology.class == WorkerClass::Asyncio
        && master(process.ppid).is_some_and(|own| master(own.ppid).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: WorkerClass, timeout: u64) -> Deadline {
        let timeout = Nanos::from_secs(timeout);
        let (silence, sign) = of_class(class).unwrap();
        Deadline {
            supervisor: &GUNICORN,
            timeout,
            sign,
            silence,
            place: String::new(),
            can_change: true,
        }
    }

    #[test]
    fn a_sign_that_is_old_when_the_silence_begins_leaves_less_time() {
        let least = |class, timeout| of(class, timeout).least().as_millis_f64();
        assert_eq!(least(WorkerClass::Sync, 30), 30_000.0);
        assert_eq!(least(WorkerClass::Gevent, 30), 29_000.0);
        assert_eq!(least(WorkerClass::Uvicorn, 30), 14_900.0);
        assert_eq!(least(WorkerClass::Asgi, 1), 500.0, "shorter than its signs are apart");
    }

    #[test]
    fn the_timeout_that_is_advised_leaves_the_room_it_was_computed_for() {
        for class in [WorkerClass::Sync, WorkerClass::Gevent, WorkerClass::Uvicorn] {
            for seconds in [2, 10, 47] {
                let length = Nanos::from_secs(seconds);
                let advised = u64::from(of(class, 30).timeout_for(length, 0.5));
                let room = |timeout| of(class, timeout).least() >= length.scaled(2, 1);
                assert!(room(advised) && !room(advised - 1), "{class:?} {seconds}: {advised}");
            }
        }
    }

    #[test]
    fn a_call_is_given_its_part_of_the_room_there_is() {
        let call = |timeout, part: u64, length: u64| {
            let (part, length) = (Nanos::from_secs(part), Nanos::from_secs(length));
            of(WorkerClass::Sync, timeout).call_timeout(part, length, 0.5)
        };
        assert_eq!(call(30, 20, 20), 14.0, "15 s would be found again");
        assert_eq!(call(30, 19, 20), 14.0);
        assert_eq!(call(30, 5, 20), 3.0, "four of them are 12 s");
        assert_eq!(call(4, 3, 3), 1.9);
        assert_eq!(call(1, 1, 90), 0.1);
    }

    #[test]
    fn where_the_timeout_is_set() {
        let place =
            |seconds, command| GUNICORN.place(seconds, Some(SettingSource::Memory), command);
        for command in ["gunicorn -t 3 a:b", "gunicorn -t3 a:b", "gunicorn --timeout=3 a:b"] {
            assert_eq!(place(3, command), "on the command line");
        }
        assert_eq!(place(3, "gunicorn --threads 3 -threads a:b"), "in its configuration");
        assert_eq!(place(30, "gunicorn a:b"), "its default");
        let environment = Some(SettingSource::Environment);
        assert_eq!(GUNICORN.place(3, environment, "gunicorn a:b"), "in the environment");
    }
}
