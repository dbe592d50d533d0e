//! The rules, one file each, named after their ids.

pub mod busy_idle;
pub mod connection_churn;
pub mod connection_limit;
pub mod cpu_starved;
pub mod dev_server;
pub mod gc_pause;
pub mod gil_held_elsewhere;
pub mod gthread_starved;
pub mod healthy;
pub mod loop_blocked_by_call;
pub mod loop_blocked_by_cpu;
pub mod loop_blocked_by_native;
pub mod loop_hung;
pub mod many_small_callbacks;
pub mod not_under_load;
pub mod oom_killed;
pub mod page_faults;
pub mod pool_saturated;
pub mod single_process_state;
pub mod slow_loop_implementation;
pub mod sync_starved;
pub mod threads_occupied;
pub mod too_few_workers;
pub mod too_many_workers;
pub mod worker_timeout_ahead;
pub mod wrong_worker_class;
