//! What to type, word for word, and what else that opens. Pure.
//!
//! Knows the command lines of sudo(8), setcap(8), sysctl(8), `docker`, `podman` and `kubectl`.

use std::path::Path;

use serde::Serialize;

use super::facts::{Facts, Target};
use super::remedy::{Remedy, has_exec};
use crate::target::{Capabilities, Engine};

/// Where `sudo` finds commands (`secure_path` of the usual sudoers(5)).
const SUDO_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The order capabilities are written in: what matters most first.
const ORDER: [Capabilities; 6] = [
    Capabilities::PERFMON,
    Capabilities::SYS_ADMIN,
    Capabilities::SYS_PTRACE,
    Capabilities::DAC_READ_SEARCH,
    Capabilities::SYS_NICE,
    Capabilities::BPF,
];

/// One thing to type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The command; words in capitals are to be filled in.
    pub command: String,
    /// Where it is to be typed, what it does and what else it opens.
    pub effect: String,
}

impl Remedy {
    /// In words. `wanted` is all that any remedy is to give: giving a file capabilities takes away
    /// those it had.
    pub(super) fn advice(&self, facts: &Facts, wanted: Capabilities) -> Advice {
        let us = &facts.us;
        let root = if us.uid == 0 { "" } else { "sudo " };
        let (command, effect) = match self {
            Remedy::Sudo => (
                format!("sudo {} {}", for_sudo(&us.executable), record(facts, "-p")),
                "as root, once".to_owned(),
            ),
            Remedy::SudoAs(user) => (
                format!(
                    "sudo -u {} {} {}",
                    shell_word(user),
                    for_sudo(&us.executable),
                    record(facts, "-p")
                ),
                "as the user it belongs to, once".to_owned(),
            ),
            Remedy::Setcap => {
                let kept = if us.uid == 0 { Capabilities::NONE } else { us.capabilities };
                let wanted = wanted.without(Capabilities::SYS_ADMIN);
                let list = listed(wanted | kept, "cap_", ",").to_lowercase();
                (
                    format!("sudo setcap {list}+ep {}", shell_word(&us.executable)),
                    if wanted.has(Capabilities::SYS_PTRACE) || wanted.has(Capabilities::PERFMON) {
                        "for good: whoever may run this file can then read every process, so give \
                         it to a group and take it from others (chgrp, chmod 750); a new build \
                         needs it again"
                    } else {
                        "for good: for whoever runs this file; a new build needs it again"
                    }
                    .to_owned(),
                )
            }
            Remedy::Exec(user) => (
                format!(
                    "{} exec -it -u {user} {} {} {}",
                    engine(facts),
                    name(facts, "NAME"),
                    shell_word(&us.executable),
                    record(facts, "-p")
                ),
                format!("on the host: as user {user} of this container"),
            ),
            Remedy::Beside { filtered } => beside(facts, wanted, *filtered),
            Remedy::FromHost => from_host(facts),
            Remedy::Sysctl(setting, value) => {
                let opens = if setting.contains("perf") {
                    "until the next boot: every user may watch processes of their own by perf \
                     events, user space only"
                } else {
                    "until the next boot: every process may read the others of its user, so one \
                     that was broken into reads the keys of the rest"
                };
                (format!("{root}sysctl {setting}={value}"), opens.to_owned())
            }
            Remedy::Launch => (
                format!("{} record -- COMMAND", shell_word(&us.executable)),
                "a server that stallspy has started is its to read".to_owned(),
            ),
            Remedy::Unset => (
                "unset STALLSPY_NO_PERF".to_owned(),
                "in this shell: perf events are tried again".to_owned(),
            ),
        };
        Advice { command, effect }
    }
}

/// From a container that shares this one's processes and has the capabilities.
fn beside(facts: &Facts, wanted: Capabilities, filtered: bool) -> (String, String) {
    let record = record(facts, "-p");
    if facts.us.container.as_ref().is_some_and(|container| container.engine == Engine::Kubernetes) {
        return (
            format!(
                "kubectl debug -it {} --image=IMAGE --target=CONTAINER --profile=sysadmin -- \
                 stallspy {record}",
                name(facts, "POD")
            ),
            "from outside: a container beside this one, from an image with stallspy in it; nothing \
             is restarted"
                .to_owned(),
        );
    }
    // Root there is another user than the target's, mostly, and reads any file without the latter.
    let wanted = (wanted | Capabilities::SYS_PTRACE).without(Capabilities::DAC_READ_SEARCH);
    let mut effect =
        "on the host: a container beside this one, from an image with stallspy in it; \
                      nothing is restarted"
            .to_owned();
    if filtered {
        effect.push_str(
            ". Where the engine's filter is older than the capability, add \
             --security-opt seccomp=unconfined",
        );
    }
    (
        format!(
            "{} run --rm -it --user 0 --pid=container:{} {} IMAGE stallspy {record}",
            engine(facts),
            name(facts, "NAME"),
            listed(wanted, "--cap-add ", " "),
        ),
        effect,
    )
}

fn from_host(facts: &Facts) -> (String, String) {
    match &facts.us.container {
        Some(container) if has_exec(container.engine) => (
            format!(
                "sudo stallspy record -s -p \"$({} inspect -f '{{{{.State.Pid}}}}' {})\"",
                engine(facts),
                name(facts, "NAME")
            ),
            "on the host: the container's first process and its children".to_owned(),
        ),
        _ => (
            "sudo stallspy record -p HOST_PID".to_owned(),
            "on the host, outside this container or namespace: `pgrep -af python` lists the pids \
             as they are there"
                .to_owned(),
        ),
    }
}

fn engine(facts: &Facts) -> &'static str {
    match facts.us.container.as_ref().map(|container| container.engine) {
        Some(Engine::Podman) => "podman",
        _ => "docker",
    }
}

fn name<'a>(facts: &'a Facts, unknown: &'a str) -> &'a str {
    let container = facts.us.container.as_ref();
    container.and_then(|container| container.name.as_deref()).unwrap_or(unknown)
}

fn record(facts: &Facts, flag: &str) -> String {
    let pid = facts.target.as_ref().map(|target: &Target| target.pid.to_string());
    format!("record {flag} {}", pid.as_deref().unwrap_or("PID"))
}

/// The names of capabilities, each with `prefix`.
fn listed(wanted: Capabilities, prefix: &str, between: &str) -> String {
    let known = ORDER.into_iter().filter(|one| wanted.has(*one));
    let names: Vec<String> =
        known.flat_map(Capabilities::names).map(|name| format!("{prefix}{name}")).collect();
    names.join(between)
}

/// How to name our file to `sudo`, which looks for commands in places of its own.
fn for_sudo(executable: &str) -> String {
    let name = Path::new(executable).file_name().and_then(|name| name.to_str());
    name.filter(|_| is_installed(executable)).map_or_else(|| shell_word(executable), shell_word)
}

/// Whether our file lies where every user finds it.
pub(super) fn is_installed(executable: &str) -> bool {
    let folder = Path::new(executable).parent().and_then(Path::to_str);
    folder.is_some_and(|folder| SUDO_PATH.contains(&folder))
}

/// A word as a shell takes it for one.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_it_for_one_word() {
        assert_eq!(shell_word("/usr/bin/stallspy"), "/usr/bin/stallspy");
        assert_eq!(shell_word("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(for_sudo("/usr/local/bin/stallspy"), "stallspy");
        assert_eq!(for_sudo("/home/me/stallspy"), "/home/me/stallspy");
    }

    #[test]
    fn capabilities_are_written_in_one_order() {
        let all = Capabilities::SYS_PTRACE
            | Capabilities::PERFMON
            | Capabilities::DAC_READ_SEARCH
            | Capabilities(1 << 10);
        let list = listed(all, "cap_", ",").to_lowercase();
        assert_eq!(list, "cap_perfmon,cap_sys_ptrace,cap_dac_read_search");
    }
}
