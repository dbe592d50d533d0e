//! `stallspy doctor`: what is allowed here, and what would allow more.

use std::io::Write;

use super::view::terminal_width;
use super::written_to_stdout;
use crate::doctor::{Advice, Attach, Diagnosis, Machine, Numbers, State, Target, Tier, USEFUL, Us};
use crate::error::Error;
use crate::printable::printable;
use crate::session;
use crate::units::Pid;

/// Columns before a tier's text: its state.
const STATE_WIDTH: usize = 8;
/// Columns before what a command does.
const EFFECT_INDENT: usize = 4;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing: it reads /proc and tries what a recording would use. Exit \
                        code 0 if a recording is possible, else the code `stallspy record` would \
                        end with.\n\nExamples:\n  \
    stallspy doctor\n  \
    stallspy doctor 4242\n  \
    stallspy doctor 4242 --json | jq -r '.tiers[] | [.id, .state] | @tsv'"
)]
pub(super) struct Args {
    /// The process that is to be watched, decimal or hex; without one, what holds for all
    #[arg(value_parser = super::record::parse_pid)]
    pid: Option<Pid>,
    /// The same, as the other commands take it
    #[arg(short, long = "pid", value_name = "PID", value_parser = super::record::parse_pid,
          conflicts_with = "pid", hide = true)]
    process: Option<Pid>,
    /// As JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Error> {
    let diagnosis = session::examine(args.pid.or(args.process))?;
    let mut out = std::io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &diagnosis)
            .map_err(std::io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print(&mut out, &diagnosis)
    };
    written_to_stdout(written)?;
    Ok(diagnosis.exit_code)
}

fn print(out: &mut dyn Write, diagnosis: &Diagnosis) -> std::io::Result<()> {
    let facts = &diagnosis.facts;
    for (name, value) in machine_lines(&facts.machine, &facts.us) {
        paragraph(out, &format!("{name:<20}"), &value)?;
    }
    if let Some(target) = &facts.target {
        writeln!(out, "\nPid {}: {}", target.pid, printable(&target.command))?;
        for (name, value) in target_lines(target) {
            paragraph(out, &format!("{name:<20}"), &value)?;
        }
    }
    writeln!(out)?;
    let mut before = "";
    for tier in &diagnosis.tiers {
        let state = match tier.state {
            State::Yes => "yes",
            State::Partly => "partly",
            State::No => "NO",
        };
        let reason =
            if tier.reason == before { "the same".into() } else { printable(&tier.reason) };
        before = &tier.reason;
        let text = format!("{}: {reason}", tier.title);
        paragraph(out, &format!("{state:<STATE_WIDTH$}"), &text)?;
    }
    print_advice(out, diagnosis)
}

/// Each command once, with all it helps for.
fn print_advice(out: &mut dyn Write, diagnosis: &Diagnosis) -> std::io::Result<()> {
    let mut seen: Vec<&str> = Vec::new();
    for advice in diagnosis.tiers.iter().flat_map(|tier| &tier.advice) {
        if seen.contains(&advice.command.as_str()) {
            continue;
        }
        if seen.is_empty() {
            writeln!(out, "\nFor more, any of these:")?;
        }
        seen.push(&advice.command);
        // Whole, to be copied: never broken into lines.
        writeln!(out, "\n  {}", printable(&advice.command))?;
        let effect = format!("{}. For {}", advice.effect, helped(diagnosis, advice));
        paragraph(out, &" ".repeat(EFFECT_INDENT), &printable(&effect))?;
    }
    Ok(())
}

/// What a command helps for.
fn helped(diagnosis: &Diagnosis, advice: &Advice) -> String {
    let helps = |tier: &&Tier| tier.advice.iter().any(|other| other.command == advice.command);
    let titles: Vec<&str> = diagnosis.tiers.iter().filter(helps).map(|tier| tier.title).collect();
    let mut missing = diagnosis.tiers.iter().filter(|tier| tier.state != State::Yes);
    if titles.len() > 1 && missing.all(|tier| helps(&tier)) {
        "all that is missing".to_owned()
    } else {
        titles.join("; ")
    }
}

fn machine_lines(machine: &Machine, us: &Us) -> Vec<(&'static str, String)> {
    let useful: Vec<&str> = us.capabilities.among(USEFUL).names().collect();
    let capabilities = match useful.as_slice() {
        _ if us.capabilities.is_empty() => "none".to_owned(),
        [] => "none that stallspy has a use for".to_owned(),
        names => names.join(", "),
    };
    vec![
        ("kernel", format!("Linux {} {}", printable(&machine.kernel), machine.architecture)),
        ("user", format!("{} ({})", us.user, us.uid)),
        ("capabilities", capabilities),
        ("container", container_line(us)),
        ("seccomp filter", seccomp_line(us).to_owned()),
        ("perf_event_paranoid", paranoid_line(machine.perf_event_paranoid)),
        ("yama ptrace_scope", yama_line(machine.ptrace_scope).to_owned()),
        ("tracepoints", tracepoints_line(machine.tracepoints).to_owned()),
        ("open files", files_line(us)),
    ]
}

fn container_line(us: &Us) -> String {
    let mut line = match &us.container {
        None => "no sign of one".to_owned(),
        Some(container) => {
            let name = container.name.as_deref().map(|name| format!(" {name}"));
            let engine = format!("{:?}", container.engine);
            let engine = if engine == "Other" { "a container or sandbox" } else { &engine };
            format!("{engine}{}", name.unwrap_or_default())
        }
    };
    if !us.first_user_namespace {
        line.push_str(", with users of its own: capabilities count only in it");
    }
    if us.no_new_privs {
        line.push_str(", no_new_privs: sudo and file capabilities have no effect");
    }
    line
}

fn seccomp_line(us: &Us) -> &'static str {
    if us.seccomp { "one judges our system calls" } else { "none" }
}

fn paranoid_line(level: Option<i32>) -> String {
    let Some(level) = level else { return "this kernel has no such setting".to_owned() };
    let meaning = match level {
        ..=-1 => "all is allowed to everybody",
        0 | 1 => "a user's own processes, in the kernel too",
        2 => "a user's own processes, in user space: enough",
        _ => "on Debian's and Ubuntu's kernels nothing without CAP_SYS_ADMIN, elsewhere as 2",
    };
    format!("{level}: {meaning}")
}

fn yama_line(scope: Option<u32>) -> &'static str {
    match scope {
        None => "Yama is not in force",
        Some(0) => "0: a user may read all processes of their own",
        Some(1) => "1: a user may read only what they launched from the same place",
        Some(2) => "2: only CAP_SYS_PTRACE may read others",
        Some(_) => "3: nobody may read others, until the next boot",
    }
}

fn tracepoints_line(numbers: Numbers) -> &'static str {
    match numbers {
        Numbers::Tracefs => "known from tracefs",
        Numbers::Cache => "known from an earlier recording (tracefs is not readable)",
        Numbers::Trying => {
            "found by trying (tracefs is not readable): the first recording takes 0.3 s to do so"
        }
        Numbers::Unknown => "not known",
    }
}

fn files_line(us: &Us) -> String {
    let number = |limit: Option<u64>| match limit {
        None => "?".to_owned(),
        Some(u64::MAX) => "no limit".to_owned(),
        Some(limit) => limit.to_string(),
    };
    format!("{}, at most {}", number(us.open_files), number(us.open_files_hard))
}

fn target_lines(target: &Target) -> Vec<(&'static str, String)> {
    let mut lines = vec![("user", format!("{} ({})", printable(&target.user), target.uid))];
    if let Attach::Read { python, loops, .. } = &target.attach {
        let loops = if loops.is_empty() { "none seen".to_owned() } else { loops.join(", ") };
        lines.push(("python", format!("{} · event loop: {loops}", printable(python))));
    }
    let place = match target.same_pid_namespace {
        Some(true) => "ours",
        Some(false) => "another: in a container of its own",
        None => "not shown to us",
    };
    lines.push(("pid namespace", place.to_owned()));
    if let Some(root) = target.root.as_deref().filter(|root| *root != "/") {
        lines.push(("root directory", printable(root).into_owned()));
    }
    if let Some(cgroup) = &target.cgroup {
        lines.push(("cgroup", printable(cgroup).into_owned()));
    }
    lines
}

/// A text behind `head`, broken between words at the terminal's width, its lines below each other.
fn paragraph(out: &mut dyn Write, head: &str, text: &str) -> std::io::Result<()> {
    let indent = head.chars().count();
    let room = terminal_width().saturating_sub(indent);
    let mut line = String::new();
    let mut start = head.to_owned();
    for word in text.split(' ') {
        let longer = line.chars().count().saturating_add(1).saturating_add(word.chars().count());
        if !line.is_empty() && longer > room {
            writeln!(out, "{start}{line}")?;
            start = " ".repeat(indent);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{start}{line}")
}
