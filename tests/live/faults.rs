//! A loop that touches memory which has to be read from a disk.

use crate::interpreters::some_interpreters;
use crate::profiler::record;
use crate::say;
use crate::server::Server;
use crate::truth::{Entry, Stall};
use crate::turn::each;

/// From so many major faults in 150 ms on they are what the time went to. Some disks, or files kept
/// in memory, make fewer: then there is nothing to see.
const MANY: u64 = 1200;

#[test]
fn memory_that_is_fetched_is_named_and_counted() {
    each(&some_interpreters(), |python| {
        let server = Server::start(python, "asyncio_faults.py", 120, &[]);
        let (report, _) = record(server.pid(), 3, &[]);
        let truth: Vec<Entry> = server.end().into_iter().filter(Entry::blocks).collect();
        let stalls = Stall::all(&report);
        let (mut met, mut named) = (0, 0);
        for own in truth.iter().filter(|own| own.faults >= MANY && !own.ongoing) {
            let inside = |stall: &&Stall| {
                stall.start_ns <= own.start_ns && stall.end_ns + 1_000_000 >= own.end_ns
            };
            // Of one that went on already, the faults before the first look are not known.
            let inside = |stall: &&Stall| inside(stall) && stall.json["before_attach"] == false;
            let Some(stall) = stalls.iter().find(inside) else { continue };
            met += 1;
            // Counted from look to look: the first may come 8 ms late, and those around see what else
            // the iteration touched.
            let told = stall.json["major_faults"].as_u64().expect("faults are counted");
            assert!(5 * told >= 4 * own.faults, "{told} of {}", own.faults);
            assert!(told <= own.faults + 50, "{told} of {}", own.faults);
            named += usize::from(
                stall.kind == "page_fault" && stall.json["culprit"]["function"] == "touch",
            );
        }
        if met == 0 {
            say("memory is not fetched from a disk here: nothing is told of page faults");
            return;
        }
        // Where the disk is fast and the machine busy, a stall may be mostly CPU time, or none.
        assert!(
            2 * named >= met,
            "{named} of {met}: {:#?}",
            stalls.iter().map(Stall::brief).collect::<Vec<_>>()
        );
    });
}
