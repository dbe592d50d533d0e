//! What background samples cost: their part of the CPU time that we used.
//!
//! Takes how long we were awake and how long samples took of that, gives CPU time. Asking the kernel
//! for CPU time around each sample would cost as much as the sample.

use crate::units::Nanos;

/// The time we were awake, and the CPU time we had used when that was last asked.
#[derive(Debug)]
pub struct Spending {
    cpu: Nanos,
    awake: Nanos,
}

impl Spending {
    /// Begins when we have used so much CPU time.
    #[must_use]
    pub fn from(cpu: Nanos) -> Spending {
        Spending { cpu, awake: Nanos::ZERO }
    }

    /// We were awake for so long.
    pub fn was_awake(&mut self, during: Nanos) {
        self.awake += during;
    }

    /// The CPU time that samples have cost since this was last asked, if they took `sampling` of the
    /// time we were awake, and we have now used `cpu`.
    pub fn on_samples(&mut self, sampling: Nanos, cpu: Nanos) -> Nanos {
        let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
        let awake = std::mem::take(&mut self.awake).0.max(1);
        Nanos(used.0.saturating_mul(sampling.0.min(awake)) / awake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_shared_by_the_time_awake() {
        let ms = Nanos::from_millis;
        let mut spending = Spending::from(ms(100));
        spending.was_awake(ms(30));
        spending.was_awake(ms(10));
        // Put off the CPU for half of the time we were awake: samples were hit as hard as the rest.
        assert_eq!(spending.on_samples(ms(10), ms(120)), ms(5));
        // Only what came since counts.
        spending.was_awake(ms(4));
        assert_eq!(spending.on_samples(ms(4), ms(124)), ms(4));
        assert_eq!(spending.on_samples(ms(1), ms(124)), Nanos::ZERO);
    }
}
