//! `kraft-sim`: runs simulated clusters from seeds, many at once, and says how to see a failure again.

use std::io::IsTerminal;
use std::ops::Range;
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use kraft::server::output::{answer_line, note, note_line};
use kraft::sim::{
    Failure, Fault, Lie, Options, Outcome, Profile, Silence, Totals, host_name, moves_start, rots_any, run,
    shrink, silence, takes_snapshots,
};

const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Run simulated clusters: real nodes on simulated disks, networks and clocks, with faults drawn from a seed.
#[derive(Parser)]
#[command(name = "kraft-sim")]
struct Flags {
    /// The (first) seed: a number, in hexadecimal with 0x before it.
    #[arg(long, default_value = "0", value_parser = parse_seed)]
    seed: u64,
    /// So many seeds, one after the other from --seed on.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Go on with new seeds for so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Seeds under way at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Simulated milliseconds in which things fail; then all must come to rest.
    #[arg(long, default_value_t = Options::new(0).ticks_ms, value_parser = clap::value_parser!(u64).range(1..))]
    ticks: u64,
    /// Which faults may be on: swarm (each seed draws its own), safety (all), liveness, disk, network, process, clock, hostile (clients), calm.
    #[arg(long, default_value = "swarm", value_parser = parse_profile)]
    profile: Profile,
    /// Leave these faults out (comma between).
    #[arg(long, value_delimiter = ',', value_parser = parse_fault)]
    without: Vec<Fault>,
    /// Clients at most.
    #[arg(long)]
    clients: Option<usize>,
    /// Let the executor lie in this way; the run is then expected to fail. --list names the kinds.
    #[arg(long, value_parser = parse_lie)]
    lie: Option<Lie>,
    /// Print the story of the run.
    #[arg(long)]
    trace: bool,
    /// The trace must have this hash: refuses to go on where the build gives another one.
    #[arg(long, value_parser = parse_seed)]
    hash: Option<u64>,
    /// Look for a shorter or quieter run that still fails.
    #[arg(long)]
    shrink: bool,
    /// Cut off the leader of each of so many seeds (from --seed on), and tell how long they are without one.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    silences: Option<u64>,
    /// Of many seeds run those only in which rot may strike any voters, a majority too.
    #[arg(long)]
    rot_any: bool,
    /// Of many seeds run those only in which the start of the logs moves.
    #[arg(long)]
    start_moves: bool,
    /// Of many seeds run those only in which snapshots are taken all the time.
    #[arg(long)]
    snapshots: bool,
    /// Name all faults and lies.
    #[arg(long)]
    list: bool,
}

fn parse_seed(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a number from 0 to 2^64-1, or hexadecimal with 0x before it".to_string())
}

fn parse_profile(text: &str) -> Result<Profile, String> {
    let names: Vec<&str> = Profile::ALL.iter().map(|(name, _)| *name).collect();
    Profile::parse(text).ok_or(format!("known profiles: {}", names.join(", ")))
}

fn parse_fault(text: &str) -> Result<Fault, String> {
    Fault::parse(text).ok_or("--list names the faults".to_string())
}

fn parse_lie(text: &str) -> Result<Lie, String> {
    Lie::parse(text).ok_or("--list names the lies".to_string())
}

impl Flags {
    fn options(&self, seed: u64) -> Options {
        Options {
            seed,
            profile: self.profile,
            ticks_ms: self.ticks,
            without: self.without.clone(),
            clients_max: self.clients.unwrap_or(usize::MAX),
            lie: self.lie,
            trace: self.trace,
        }
    }
}

fn main() {
    let flags = Flags::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        // One line: the first says what is wrong.
        let text = error.to_string();
        let why: Vec<&str> =
            text.lines().map(str::trim).take_while(|line| !line.starts_with("For more")).collect();
        note_line!("{}", why.iter().filter(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("; "));
        exit(EXIT_USAGE);
    });
    if flags.list {
        Fault::ALL.iter().for_each(|fault| answer_line!("fault  {:<24} {}", fault.name(), fault.what()));
        Lie::ALL.iter().for_each(|lie| answer_line!("lie    {:<24} {}", lie.name(), lie.what()));
        return;
    }
    // A failed assertion is an outcome like any other, reported with its seed; only its place is told here.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            note_line!("an assertion failed at {place}");
        }
    }));
    if let Some(count) = flags.silences {
        return print_silences(flags.seed..flags.seed.saturating_add(count), flags.trace);
    }
    let is_many = flags.seeds.is_some() || flags.minutes.is_some();
    exit(if is_many { run_many(&flags) } else { run_one(&flags) });
}

fn print_silences(seeds: Range<u64>, trace: bool) {
    let mut silences: Vec<Silence> = seeds.filter_map(|seed| silence(seed, trace)).collect();
    silences.iter().flat_map(|silence| &silence.story).for_each(|line| answer_line!("{line}"));
    silences.sort_by_key(Silence::permille);
    let Some(last) = silences.len().checked_sub(1) else {
        return answer_line!("no seed had a leader to cut off");
    };
    answer_line!("{} leaders fell silent; until another one led:", silences.len());
    for (name, at) in [("p50", last / 2), ("p99", last * 99 / 100), ("max", last)] {
        let Silence { seed, voters, ns, fetch_timeout_ms, .. } = silences[at];
        let (ms, ratio) = (ns / 1_000_000, silences[at].permille() as f64 / 1000.0);
        answer_line!(
            "{name} {ratio:.2} fetch timeouts ({ms} ms of {fetch_timeout_ms}, {voters} voters, seed {seed})"
        );
    }
}

fn run_one(flags: &Flags) -> i32 {
    let options = flags.options(flags.seed);
    let outcome = run(&options);
    outcome.story.iter().for_each(|line| answer_line!("{line}"));
    if let Some(wanted) = flags.hash.filter(|wanted| *wanted != outcome.hash) {
        note_line!("the trace of this build has the hash {:#018x}, not {wanted:#018x}", outcome.hash);
        return EXIT_USAGE;
    }
    answer_line!("seed {} hash {:#018x}", flags.seed, outcome.hash);
    answer_line!("{}", totals_line(&outcome.totals));
    answer_line!("{}", faults_lines(&outcome.totals));
    let Some(failure) = &outcome.failure else { return 0 };
    print_failure(&options, failure);
    if flags.shrink {
        print_shrunk(&options);
    }
    EXIT_FAILED
}

fn print_shrunk(options: &Options) {
    let quiet = Options { trace: false, ..options.clone() };
    let best = shrink(&quiet, &mut |tried, fails| {
        note_line!("{} {}", if fails { "still fails:" } else { "passes:     " }, command(tried));
    });
    answer_line!("shortest that was found: {}", command(&best));
}

fn print_failure(options: &Options, failure: &Failure) {
    for (host, lines) in &failure.last {
        answer_line!("--- last lines of {}", host_name(*host));
        lines.iter().for_each(|line| answer_line!("{line}"));
    }
    answer_line!("FAILED after {} ms: {}", failure.at_ms, failure.invariant);
    answer_line!("    {}", failure.detail);
    answer_line!("    again: {}", command(options));
}

/// What replays the run.
fn command(options: &Options) -> String {
    let profile =
        Profile::ALL.iter().find(|(_, profile)| *profile == options.profile).map_or("swarm", |p| p.0);
    let mut text =
        format!("kraft-sim --seed {} --ticks {} --profile {profile}", options.seed, options.ticks_ms);
    if !options.without.is_empty() {
        let names: Vec<&str> = options.without.iter().map(|fault| fault.name()).collect();
        text += &format!(" --without {}", names.join(","));
    }
    if options.clients_max < usize::MAX {
        text += &format!(" --clients {}", options.clients_max);
    }
    if let Some(lie) = options.lie {
        text += &format!(" --lie {}", lie.name());
    }
    text + " --trace"
}

fn totals_line(t: &Totals) -> String {
    format!(
        "{:.1} simulated s, {} events, {} turns, {} faults, {} starts, {} stops, {} empty disks, {} elections, {} commits, \
         {} acknowledged{}",
        t.simulated_ns as f64 / 1e9,
        t.events,
        t.turns,
        t.faults,
        t.starts,
        t.stops,
        t.wipes,
        t.elections,
        t.commits,
        t.acknowledged,
        if t.lies > 0 { format!(", {} lies", t.lies) } else { String::new() }
    )
}

/// How often each kind of fault has struck, and what power cuts took back: a fault that never acts tests nothing.
fn faults_lines(t: &Totals) -> String {
    let kinds: Vec<String> = Fault::ALL
        .iter()
        .zip(t.of_kind.0)
        .filter(|(_, count)| *count > 0)
        .map(|(fault, count)| format!("{} {count}", fault.name()))
        .collect();
    let [names, sizes, sectors] = t.undone;
    format!(
        "faults: {}\npower cuts took back {names} names, {sizes} sizes, {sectors} sectors; {} frames with a flipped bit; \
         {} hostile clients, {} connections sent away, {} rounds waited at most; {} starts refused for rot, {} in doubt of a \
         rotten end, {} of a torn one; rot struck a majority {} times, {} quorums wait; starts have believed {} summaries, \
         and read {} segments; logs were told {} times to start later; {} snapshots, {} given up, {} starts \
         from one, {} set aside",
        kinds.join(", "),
        t.flips,
        t.hostiles,
        t.sent_away,
        t.waited_max,
        t.refused_starts,
        t.doubts,
        t.unproven_tears,
        t.majorities_struck,
        t.waits,
        t.summaries,
        t.scans,
        t.starts_moved,
        t.snapshots,
        t.snapshots_given_up,
        t.snapshots_read,
        t.snapshots_set_aside
    )
}

fn add(sum: &mut Totals, one: &Totals) {
    sum.of_kind.0.iter_mut().zip(one.of_kind.0).for_each(|(sum, one)| *sum += one);
    sum.undone.iter_mut().zip(one.undone).for_each(|(sum, one)| *sum += one);
    sum.flips += one.flips;
    sum.refused_starts += one.refused_starts;
    sum.doubts += one.doubts;
    sum.unproven_tears += one.unproven_tears;
    sum.majorities_struck += one.majorities_struck;
    sum.waits += one.waits;
    sum.summaries += one.summaries;
    sum.scans += one.scans;
    sum.snapshots += one.snapshots;
    sum.snapshots_given_up += one.snapshots_given_up;
    sum.snapshots_read += one.snapshots_read;
    sum.snapshots_set_aside += one.snapshots_set_aside;
    sum.events += one.events;
    sum.simulated_ns += one.simulated_ns;
    sum.faults += one.faults;
    sum.starts += one.starts;
    sum.stops += one.stops;
    sum.starts_moved += one.starts_moved;
    sum.wipes += one.wipes;
    sum.turns += one.turns;
    sum.commits += one.commits;
    sum.acknowledged += one.acknowledged;
    sum.elections += one.elections;
    sum.bad_input += one.bad_input;
    sum.hostiles += one.hostiles;
    sum.sent_away += one.sent_away;
    sum.waited_max = sum.waited_max.max(one.waited_max);
    sum.lies += one.lies;
}

/// Until the seeds or the minutes are over. With a lie: until one was caught.
fn run_many(flags: &Flags) -> i32 {
    let (next, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let started = Instant::now();
    let deadline = flags.minutes.map(|minutes| started + Duration::from_secs(60 * minutes));
    let count = flags.seeds.unwrap_or(u64::MAX);
    let report = Mutex::new(Report { sum: Totals::default(), seeds: 0, failed: Vec::new(), started });
    let (sender, receiver) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        for _ in 0..flags.jobs {
            let (next, is_over, report, sender) = (&next, &is_over, &report, sender.clone());
            scope.spawn(move || {
                let _running = sender;
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    if index >= count || is_late || is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let options = flags.options(flags.seed.wrapping_add(index));
                    let is_other = (flags.rot_any && !rots_any(&options))
                        || (flags.start_moves && !moves_start(&options))
                        || (flags.snapshots && !takes_snapshots(&options));
                    if is_other {
                        continue;
                    }
                    let outcome = run(&options);
                    let has_failed = outcome.failure.is_some();
                    report.lock().unwrap_or_else(|e| e.into_inner()).take(&options, outcome);
                    if has_failed && flags.lie.is_some() {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
        drop(sender);
        while receiver.recv_timeout(PROGRESS_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
            report.lock().unwrap_or_else(|e| e.into_inner()).progress();
        }
    });
    let report = report.into_inner().unwrap_or_else(|e| e.into_inner());
    report.end(flags)
}

struct Report {
    sum: Totals,
    seeds: u64,
    failed: Vec<(u64, String)>,
    started: Instant,
}

impl Report {
    fn take(&mut self, options: &Options, outcome: Outcome) {
        add(&mut self.sum, &outcome.totals);
        self.seeds += 1;
        if let Some(failure) = outcome.failure {
            print_failure(options, &failure);
            self.failed.push((options.seed, failure.invariant));
        }
    }

    fn line(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let simulated = self.sum.simulated_ns as f64 / 1e9;
        format!(
            "{} seeds, {:.1}/s, {:.2} simulated h ({:.0} times real time), {} faults, {} starts, {} commits, {} elections, {} failed",
            self.seeds,
            self.seeds as f64 / seconds,
            simulated / 3600.0,
            simulated / seconds,
            self.sum.faults,
            self.sum.starts,
            self.sum.commits,
            self.sum.elections,
            self.failed.len()
        )
    }

    fn progress(&self) {
        let end = if std::io::stderr().is_terminal() { '\r' } else { '\n' };
        note(format_args!("{}{end}", self.line()));
    }

    fn end(self, flags: &Flags) -> i32 {
        answer_line!("{}", self.line());
        answer_line!("{}", totals_line(&self.sum));
        answer_line!("{}", faults_lines(&self.sum));
        let mut kinds: Vec<(&str, Vec<u64>)> = Vec::new();
        for (seed, invariant) in &self.failed {
            match kinds.iter_mut().find(|(kind, _)| kind == invariant) {
                Some((_, seeds)) => seeds.push(*seed),
                None => kinds.push((invariant, vec![*seed])),
            }
        }
        for (kind, seeds) in kinds {
            answer_line!("failed: {kind}: {} times, seeds {:?}", seeds.len(), &seeds[..seeds.len().min(8)]);
        }
        match (flags.lie, self.failed.is_empty()) {
            (Some(lie), true) => {
                answer_line!("the lie {} was not caught", lie.name());
                EXIT_FAILED
            }
            (Some(_), false) | (None, true) => 0,
            (None, false) => EXIT_FAILED,
        }
    }
}
