//! What lives in a process beside its requests: how schedulers, timers, watches and subscriptions look on
//! the stacks of the threads, tasks and greenlets that they run in.
//!
//! Takes a stack with its names and what its innermost frame sleeps in, gives what it is. Knows libraries
//! by their files, and the application's own loops by what they sleep in. Servers, pools and what only
//! measures (telemetry) are no residents. Reads no memory.

use crate::model::ResidentKind;
use crate::model::origin::{Origin, origin};

/// A frame with its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Its function.
    pub function: String,
    /// Its source file, absolute as the target sees it.
    pub file: String,
    /// The line it is at.
    pub line: Option<u32>,
}

impl Spot {
    fn is_in(&self, file: &str) -> bool {
        self.file.ends_with(file)
    }

    fn is_one_of(&self, (file, functions): (&str, &[&str])) -> bool {
        self.is_in(file) && (functions.is_empty() || functions.contains(&self.function.as_str()))
    }
}

/// What the innermost frame waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// A call that only lets time pass.
    Nap,
    /// Data of a connection, or news of a folder.
    News,
    /// Something else, or nothing. Of a task or greenlet its frames tell more.
    Other,
}

/// What was recognised.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// What it is.
    pub kind: ResidentKind,
    /// The library's name; `None` for the application's own.
    pub library: Option<&'static str>,
    /// Which frame to name: the application's where there is one.
    pub place: usize,
    /// Which frame is there as long as it lives.
    pub root: usize,
    /// How long it sleeps each time, in seconds.
    pub period: Option<f64>,
}

type Known = (&'static str, &'static [&'static str], ResidentKind, &'static str);

/// Functions of libraries that run as long as what they are, by the end of their files; no functions
/// stand for all. Every file is of one library.
/// <https://github.com/agronholm/apscheduler/blob/3.10.4/apscheduler/schedulers/blocking.py#L25>,
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/sched.py#L125>,
/// <https://github.com/rq/rq-scheduler/blob/v0.13.1/rq_scheduler/scheduler.py>,
/// <https://github.com/kubernetes-client/python/blob/v29.0.0/kubernetes/base/watch/watch.py#L109>,
/// <https://github.com/gorakhargosh/watchdog/blob/v4.0.0/src/watchdog/observers/api.py#L187>,
/// <https://github.com/redis/redis-py/blob/v5.0.1/redis/client.py#L1009>.
const LIBRARIES: &[Known] = &[
    (
        "/apscheduler/schedulers/blocking.py",
        &["_main_loop"],
        ResidentKind::Scheduler,
        "APScheduler",
    ),
    ("/apscheduler/schedulers/asyncio.py", &[], ResidentKind::Scheduler, "APScheduler"),
    ("/apscheduler/_schedulers/async_.py", &[], ResidentKind::Scheduler, "APScheduler"),
    ("/rq_scheduler/scheduler.py", &["run"], ResidentKind::Scheduler, "rq-scheduler"),
    ("/celery/beat.py", &["start", "run"], ResidentKind::Scheduler, "celery beat"),
    ("/sched.py", &["run"], ResidentKind::Scheduler, "sched"),
    ("/fastapi_utils/tasks.py", &["loop"], ResidentKind::Timer, "fastapi-utils repeat_every"),
    ("/aiocron/__init__.py", &[], ResidentKind::Timer, "aiocron"),
    (
        "/kubernetes/watch/watch.py",
        &["stream", "iter_resp_lines", "next"],
        ResidentKind::Watch,
        "Kubernetes watch",
    ),
    (
        "/kubernetes_asyncio/watch/watch.py",
        &["stream", "iter_resp_lines", "next"],
        ResidentKind::Watch,
        "Kubernetes watch",
    ),
    ("/watchdog/observers/api.py", &["run"], ResidentKind::Watch, "watchdog observer"),
    ("/watchdog/observers/inotify_buffer.py", &["run"], ResidentKind::Watch, "watchdog observer"),
    ("/watchdog/observers/inotify_c.py", &["run"], ResidentKind::Watch, "watchdog observer"),
    ("/watchfiles/main.py", &["watch", "awatch"], ResidentKind::Watch, "watchfiles"),
    ("/redis/client.py", &["listen", "get_message", "run"], ResidentKind::Subscription, "Redis"),
    (
        "/redis/asyncio/client.py",
        &["listen", "get_message", "run"],
        ResidentKind::Subscription,
        "Redis",
    ),
    ("/kafka/consumer/group.py", &["poll", "__next__"], ResidentKind::Subscription, "Kafka"),
    (
        "/aiokafka/consumer/consumer.py",
        &["getone", "getmany", "__anext__"],
        ResidentKind::Subscription,
        "Kafka",
    ),
    (
        "/pika/adapters/blocking_connection.py",
        &["start_consuming", "consume"],
        ResidentKind::Subscription,
        "RabbitMQ",
    ),
    ("/paho/mqtt/client.py", &["loop_forever", "_thread_main"], ResidentKind::Subscription, "MQTT"),
];

/// Files of frames that only a task has which serves a `WebSocket`.
/// <https://github.com/encode/starlette/blob/0.36.0/starlette/websockets.py>,
/// <https://github.com/encode/uvicorn/blob/0.30.0/uvicorn/protocols/websockets/websockets_impl.py#L238>,
/// <https://github.com/aio-libs/aiohttp/blob/v3.9.3/aiohttp/web_ws.py>.
const WEBSOCKETS: &[(&str, &[&str])] = &[
    ("/starlette/websockets.py", &[]),
    ("/uvicorn/protocols/websockets/websockets_impl.py", &["run_asgi"]),
    ("/uvicorn/protocols/websockets/websockets_sansio_impl.py", &["run_asgi"]),
    ("/uvicorn/protocols/websockets/wsproto_impl.py", &["run_asgi"]),
    ("/channels/generic/websocket.py", &[]),
    ("/aiohttp/web_ws.py", &["receive", "__anext__"]),
];

/// Parts of paths of servers and of what calls handlers: what has them on its stack belongs to a request,
/// or to the server itself.
const SERVERS: &[&str] = &[
    "/uvicorn/",
    "/gunicorn/",
    "/hypercorn/",
    "/daphne/",
    "/granian/",
    "/starlette/",
    "/aiohttp/web",
    "/tornado/",
    "/werkzeug/",
    "/flask/",
    "/django/",
    "/wsgiref/",
    "/socketserver.py",
    "/http/server.py",
    "/gevent/pywsgi.py",
    "/gevent/baseserver.py",
    "/eventlet/wsgi.py",
    "/waitress/",
    "/cheroot/",
];

/// Where threads of pools take their work from: what runs on them was handed to them, and mostly ends.
const POOLS: &[&str] = &[
    "/concurrent/futures/thread.py",
    "/anyio/_backends/_asyncio.py",
    "/anyio/_backends/_trio.py",
    "/gevent/threadpool.py",
    "/eventlet/tpool.py",
    "/multiprocessing/pool.py",
];

/// Functions that let time pass, and the variable that says how much.
/// <https://github.com/python/cpython/blob/v3.12.1/Lib/asyncio/tasks.py#L651>,
/// <https://github.com/gevent/gevent/blob/24.2.1/src/gevent/hub.py#L122>,
/// <https://github.com/eventlet/eventlet/blob/0.36.1/eventlet/greenthread.py#L17>.
const SLEEPS: &[(&str, &[&str], &str)] = &[
    ("/asyncio/tasks.py", &["sleep"], "delay"),
    ("/gevent/hub.py", &["sleep"], "seconds"),
    ("/eventlet/greenthread.py", &["sleep"], "seconds"),
];
/// Where threads wait for each other: to let time pass, if it is not for ever
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/threading.py#L641>).
const WAIT: (&str, &[&str]) = ("/threading.py", &["wait"]);
const TIMEOUT: &str = "timeout";
/// Shorter sleeps than this are waits for something else, asked again and again: no timer of a server
/// goes off ten times a second.
const SHORTEST: f64 = 0.1;

/// What a `threading.Timer` runs in: `run` waits itself, where a thread's own calls its target
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/threading.py#L1419>).
#[must_use]
pub fn is_threading_timer(spots: &[Spot]) -> Option<usize> {
    let run = spots.iter().position(|spot| spot.is_one_of(("/threading.py", &["run"])))?;
    let inner = spots.get(..run)?;
    (!inner.is_empty() && inner.iter().all(|spot| spot.is_one_of(WAIT))).then_some(run)
}

/// What runs on a stack, innermost frame first, if it is a resident. `number` reads a variable of a frame,
/// by its place.
pub fn resident(
    spots: &[Spot],
    sleep: Sleep,
    stdlib: Option<&str>,
    number: &mut dyn FnMut(usize, &str) -> Option<f64>,
) -> Option<Seen> {
    if spots.iter().any(|spot| WEBSOCKETS.iter().any(|known| spot.is_one_of(*known))) {
        let kind = ResidentKind::WebSockets;
        return Some(Seen { kind, library: None, place: 0, root: 0, period: None });
    }
    if spots.iter().any(|spot| SERVERS.iter().any(|part| spot.file.contains(part))) {
        return None;
    }
    let is_own = |spot: &Spot| origin(&spot.file, &spot.function, stdlib) == Origin::Application;
    let own = spots.iter().position(is_own);
    let library = spots.iter().enumerate().find_map(|(at, spot)| {
        let known = LIBRARIES.iter().find(|known| spot.is_one_of((known.0, known.1)))?;
        Some((at, known))
    });
    if let Some((at, (_, _, kind, name))) = library {
        // Whoever called it is to be named.
        let caller = spots.iter().enumerate().skip(at).find(|(_, spot)| is_own(spot));
        let place = caller.map_or(at, |(place, _)| place);
        let period = spots.get(..at).and_then(|inner| period(inner, number));
        return Some(Seen { kind: *kind, library: Some(name), place, root: at, period });
    }
    if spots.iter().any(|spot| POOLS.iter().any(|file| spot.is_in(file))) {
        return None;
    }
    let place = own?;
    let root = spots.iter().rposition(is_own)?;
    let inner = spots.get(..place)?;
    let period = period(inner, number);
    let kind = match sleep {
        Sleep::Nap => ResidentKind::Timer,
        Sleep::News => ResidentKind::Watch,
        Sleep::Other if period.is_some_and(|period| period >= SHORTEST) => ResidentKind::Timer,
        Sleep::Other => return None,
    };
    Some(Seen { kind, library: None, place, root, period })
}

/// Whether a function that is to be called later, once more and once more, is a scheduler's or the
/// application's own.
#[must_use]
pub fn callback(
    function: &Spot,
    stdlib: Option<&str>,
) -> Option<(ResidentKind, Option<&'static str>)> {
    let known = LIBRARIES.iter().find(|known| known.1.is_empty() && function.is_in(known.0));
    if let Some((_, _, kind, name)) = known {
        return Some((*kind, Some(name)));
    }
    let is_own = origin(&function.file, &function.function, stdlib) == Origin::Application;
    is_own.then_some((ResidentKind::Timer, None))
}

/// How long the frames that an application's has called let pass.
fn period(inner: &[Spot], number: &mut dyn FnMut(usize, &str) -> Option<f64>) -> Option<f64> {
    let mut waits = inner.iter().enumerate().rev().filter_map(|(at, spot)| {
        let sleeps = SLEEPS.iter().find(|(file, names, _)| spot.is_one_of((*file, *names)));
        let variable = sleeps.map(|(.., variable)| *variable);
        variable.or_else(|| spot.is_one_of(WAIT).then_some(TIMEOUT)).map(|name| (at, name))
    });
    let (at, name) = waits.next()?;
    number(at, name).filter(|seconds| seconds.is_finite() && *seconds > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGES: &str = "/srv/venv/lib/python3.12/site-packages";
    const LIB: &str = "/usr/lib/python3.12";

    /// Spots of `file:function` lines, innermost first; a file that begins with `~` is of a package, with
    /// `=` of the standard library.
    fn spots(lines: &[&str]) -> Vec<Spot> {
        let spot = |line: &&str| {
            let (file, function) = line.rsplit_once(':').unwrap();
            let file = file.replace('~', &format!("{PACKAGES}/")).replace('=', &format!("{LIB}/"));
            Spot { function: function.to_owned(), file, line: Some(7) }
        };
        lines.iter().map(spot).collect()
    }

    fn see(lines: &[&str], sleep: Sleep, seconds: Option<f64>) -> Option<Seen> {
        resident(&spots(lines), sleep, Some(LIB), &mut |_, _| seconds)
    }

    fn kind(lines: &[&str], sleep: Sleep, seconds: Option<f64>) -> Option<ResidentKind> {
        see(lines, sleep, seconds).map(|seen| seen.kind)
    }

    const THREAD: [&str; 2] = ["=threading.py:run", "=threading.py:_bootstrap_inner"];

    fn thread(lines: &[&'static str]) -> Vec<&'static str> {
        [lines, &THREAD].concat()
    }

    #[test]
    fn a_thread_of_the_applications_that_naps_is_a_timer() {
        let own = thread(&["/srv/app/jobs.py:refresh", "/srv/app/jobs.py:forever"]);
        let seen = see(&own, Sleep::Nap, None).unwrap();
        assert_eq!(
            (seen.kind, seen.library, seen.place, seen.root),
            (ResidentKind::Timer, None, 0, 1)
        );
        assert_eq!(kind(&own, Sleep::Other, None), None);
        let waits = thread(&["=threading.py:wait", "=threading.py:wait", "/srv/app/jobs.py:loop"]);
        let seen = see(&waits, Sleep::Other, Some(60.0)).unwrap();
        assert_eq!((seen.kind, seen.place, seen.period), (ResidentKind::Timer, 2, Some(60.0)));
        assert_eq!(kind(&waits, Sleep::Other, None), None, "it waits for ever: for work");
        assert_eq!(kind(&waits, Sleep::Other, Some(0.05)), None);
    }

    #[test]
    fn what_waits_for_news_watches() {
        let own = thread(&["=socket.py:readinto", "/srv/app/follow.py:follow"]);
        assert_eq!(kind(&own, Sleep::News, None), Some(ResidentKind::Watch));
        let watch = [
            "=ssl.py:recv_into",
            "~urllib3/response.py:stream",
            "~kubernetes/watch/watch.py:iter_resp_lines",
            "~kubernetes/watch/watch.py:stream",
            "/srv/app/pods.py:follow",
        ];
        let seen = see(&thread(&watch), Sleep::Other, None).unwrap();
        assert_eq!(
            (seen.kind, seen.library, seen.place),
            (ResidentKind::Watch, Some("Kubernetes watch"), 4)
        );
        // Handed to a pool it is one all the same; the application's own is not.
        let pooled = [&watch[..], &["=concurrent/futures/thread.py:_worker"]].concat();
        assert_eq!(kind(&pooled, Sleep::Other, None), Some(ResidentKind::Watch));
        let pooled = ["/srv/app/x.py:call", "=concurrent/futures/thread.py:_worker"];
        assert_eq!(kind(&pooled, Sleep::Nap, None), None);
    }

    #[test]
    fn schedulers_are_known_by_their_loops() {
        let lines = [
            "=threading.py:wait",
            "=threading.py:wait",
            "~apscheduler/schedulers/blocking.py:_main_loop",
        ];
        let seen = see(&thread(&lines), Sleep::Other, Some(3.0)).unwrap();
        assert_eq!((seen.kind, seen.library), (ResidentKind::Scheduler, Some("APScheduler")));
        let lines = ["=sched.py:run", "/srv/app/jobs.py:start"];
        assert_eq!(kind(&thread(&lines), Sleep::Nap, None), Some(ResidentKind::Scheduler));
    }

    #[test]
    fn tasks_and_greenlets_tell_by_their_frames() {
        let task = ["=asyncio/tasks.py:sleep", "/srv/app/main.py:refresh"];
        let seen = see(&task, Sleep::Other, Some(5.0)).unwrap();
        assert_eq!((seen.kind, seen.period, seen.place), (ResidentKind::Timer, Some(5.0), 1));
        let greenlet = ["~gevent/hub.py:switch", "~gevent/hub.py:sleep", "/srv/app/main.py:tick"];
        assert_eq!(kind(&greenlet, Sleep::Other, Some(1.0)), Some(ResidentKind::Timer));
        let socket = [
            "~uvicorn/protocols/websockets/websockets_impl.py:asgi_receive",
            "~starlette/websockets.py:receive",
            "/srv/app/main.py:echo",
            "~uvicorn/protocols/websockets/websockets_impl.py:run_asgi",
        ];
        assert_eq!(kind(&socket, Sleep::Other, None), Some(ResidentKind::WebSockets));
    }

    #[test]
    fn servers_pools_and_telemetry_are_none() {
        for lines in [
            &[
                "=asyncio/tasks.py:sleep",
                "~uvicorn/server.py:main_loop",
                "~uvicorn/server.py:serve",
            ][..],
            &["/srv/app/views.py:slow", "~gunicorn/workers/gthread.py:handle_request"],
            &["~gevent/hub.py:sleep", "~gunicorn/workers/ggevent.py:run"],
            &["=asyncio/tasks.py:sleep", "/srv/app/views.py:slow", "~starlette/routing.py:app"],
            &["=threading.py:wait", "=queue.py:get", "~sentry_sdk/worker.py:_target"],
            &["=threading.py:wait", "~opentelemetry/sdk/metrics/export.py:_ticker"],
            &["=queue.py:get", "=logging/handlers.py:dequeue", "=logging/handlers.py:_monitor"],
        ] {
            assert_eq!(kind(lines, Sleep::Nap, Some(5.0)), None, "{lines:?}");
        }
    }

    #[test]
    fn a_timer_of_threading_waits_in_run_itself() {
        let timer = spots(&thread(&["=threading.py:wait", "=threading.py:wait"]));
        assert_eq!(is_threading_timer(&timer), Some(2));
        let other = spots(&thread(&["=threading.py:wait", "/srv/app/jobs.py:loop"]));
        assert_eq!(is_threading_timer(&other), None);
        assert_eq!(is_threading_timer(&spots(&THREAD)), None);
    }

    #[test]
    fn a_callback_is_the_applications_or_a_schedulers() {
        let of = |line: &str| callback(&spots(&[line])[0], Some(LIB));
        assert_eq!(of("/srv/app/main.py:tick"), Some((ResidentKind::Timer, None)));
        let scheduler = Some((ResidentKind::Scheduler, Some("APScheduler")));
        assert_eq!(of("~apscheduler/schedulers/asyncio.py:wrapper"), scheduler);
        assert_eq!(of("~uvicorn/protocols/http/h11_impl.py:timeout_keep_alive_handler"), None);
        assert_eq!(of("=asyncio/futures.py:_set_result_unless_cancelled"), None);
    }
}
