//! The nouns: plain data that every other part speaks in.
//!
//! No I/O, no clock, no process. Left of [`Recording`] everything observes; right of it everything
//! concludes. The files here are named after the one noun each of them holds.

pub mod background;
pub mod budget;
pub mod connecting;
pub mod contrast;
pub mod crowd;
pub mod driver;
pub mod finding;
pub mod frame;
pub mod gap;
pub mod gil;
pub mod load;
pub mod lock_wait;
pub mod loop_load;
pub mod loop_state;
mod neighbour;
pub mod occupancy;
pub mod origin;
mod patches;
pub mod pool;
pub mod process;
pub mod recording;
pub mod report;
mod requests;
pub mod resident;
pub mod sample;
pub mod setting;
mod snapshot;
pub mod socket;
pub mod spin;
pub mod stall;
pub mod throttle;
pub mod usage;
pub mod wait;

pub use background::{Background, Beside};
pub use budget::{Budget, Machine, Turns};
pub use connecting::Connecting;
pub use contrast::{Asked, Contrast, PeerLimit};
pub use crowd::{Crowd, CrowdLook};
pub use finding::{
    Effect, Finding, Measured, Recommendation, Remedy, SettingKind, Severity, Verdict,
};
pub use frame::{Frame, FrameId, FrameKind, NameId, Stack, StackId, Truncation};
pub use gap::{EdgeStatus, Gap};
pub use gil::{GilHolder, GilTally};
pub use load::{Connected, Cores, Costs, Load, Memory, SharedKind, SharedPool, ThreadPool};
pub use lock_wait::{LockKind, LockWait};
pub use loop_load::{BlockedOn, CallTime, LengthBin, LoopLoad};
pub use loop_state::{
    CallbackRun, LoopId, LoopInfo, LoopKind, LoopPhase, LoopState, LoopTally, SchedTimes,
    ThreadLook, WEBSOCKET,
};
pub use neighbour::Neighbour;
pub use occupancy::Occupancy;
pub use patches::Patches;
pub use pool::{Level, PoolInfo, PoolKind, PoolReading, PoolWork};
pub use process::{ProcessInfo, Role, ThreadInfo, WorkerClass, WorkerTopology};
pub use recording::{Losses, NativeStacks, Recording, Settings, Tables};
pub use report::{CulpritTotal, LoopSummary, Report};
pub use requests::RequestTally;
pub use resident::{Resident, ResidentKind, ResidentPlace};
pub use sample::{CpuState, GilState, Sample};
pub use setting::{ServerConfig, Setting, SettingSource, SettingValue};
pub use snapshot::{
    Snapshot, SnapshotFrame, SnapshotGreenlet, SnapshotLoop, SnapshotPool, SnapshotTask,
    SnapshotThread, TaskState,
};
pub use socket::{ConnectionInfo, ListenerInfo};
pub use spin::{Glimpse, Readiness, ReadyFd, Spin};
pub use stall::{
    Cause, Contributor, Culprit, Evidence, LineTime, OtherLine, Particulars, Stall, TimeSplit,
    WholeRequest,
};
pub use throttle::{CpuQuota, Throttle, Throttled};
pub use usage::ThreadUse;
pub use wait::{LockHolder, LockOwner, Peer, Wait, WaitId};
