//! `kraft-sim`: runs simulated clusters from seeds, many at once, and says how to see a failure again.

use std::io::{IsTerminal, Write};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use clap::Parser;
use kraft::sim::{Failure, Fault, Lie, Options, Outcome, Profile, Totals, host_name, run, shrink};

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
    /// Which faults may be on: swarm (each seed draws its own), safety (all), liveness, disk, network, process, clock, calm.
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
        eprintln!("{}", why.iter().filter(|line| !line.is_empty()).copied().collect::<Vec<_>>().join("; "));
        exit(EXIT_USAGE);
    });
    if flags.list {
        Fault::ALL.iter().for_each(|fault| println!("fault  {:<24} {}", fault.name(), fault.what()));
        Lie::ALL.iter().for_each(|lie| println!("lie    {:<24} {}", lie.name(), lie.what()));
        return;
    }
    // A failed assertion is an outcome like any other, reported with its seed; only its place is told here.
    std::panic::set_hook(Box::new(|panic| {
        if let Some(place) = panic.location() {
            eprintln!("an assertion failed at {place}");
        }
    }));
    let is_many = flags.seeds.is_some() || flags.minutes.is_some();
    exit(if is_many { run_many(&flags) } else { run_one(&flags) });
}

fn run_one(flags: &Flags) -> i32 {
    let options = flags.options(flags.seed);
    let outcome = run(&options);
    outcome.story.iter().for_each(|line| println!("{line}"));
    if let Some(wanted) = flags.hash.filter(|wanted| *wanted != outcome.hash) {
        eprintln!("the trace of this build has the hash {:#018x}, not {wanted:#018x}", outcome.hash);
        return EXIT_USAGE;
    }
    println!("seed {} hash {:#018x}", flags.seed, outcome.hash);
    println!("{}", totals_line(&outcome.totals));
    println!("{}", faults_lines(&outcome.totals));
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
        eprintln!("{} {}", if fails { "still fails:" } else { "passes:     " }, command(tried));
    });
    println!("shortest that was found: {}", command(&best));
}

fn print_failure(options: &Options, failure: &Failure) {
    for (host, lines) in &failure.last {
        println!("--- last lines of {}", host_name(*host));
        lines.iter().for_each(|line| println!("{line}"));
    }
    println!("FAILED after {} ms: {}", failure.at_ms, failure.invariant);
    println!("    {}", failure.detail);
    println!("    again: {}", command(options));
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
        .zip(t.of_kind)
        .filter(|(_, count)| *count > 0)
        .map(|(fault, count)| format!("{} {count}", fault.name()))
        .collect();
    let [names, sizes, sectors] = t.undone;
    format!(
        "faults: {}\npower cuts took back {names} names, {sizes} sizes, {sectors} sectors; {} frames with a flipped bit; \
         {} starts refused for rot; starts have believed {} summaries, and read {} segments",
        kinds.join(", "),
        t.flips,
        t.refused_starts,
        t.summaries,
        t.scans
    )
}

fn add(sum: &mut Totals, one: &Totals) {
    sum.of_kind.iter_mut().zip(one.of_kind).for_each(|(sum, one)| *sum += one);
    sum.undone.iter_mut().zip(one.undone).for_each(|(sum, one)| *sum += one);
    sum.flips += one.flips;
    sum.refused_starts += one.refused_starts;
    sum.summaries += one.summaries;
    sum.scans += one.scans;
    sum.events += one.events;
    sum.simulated_ns += one.simulated_ns;
    sum.faults += one.faults;
    sum.starts += one.starts;
    sum.stops += one.stops;
    sum.wipes += one.wipes;
    sum.turns += one.turns;
    sum.commits += one.commits;
    sum.acknowledged += one.acknowledged;
    sum.elections += one.elections;
    sum.bad_input += one.bad_input;
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
        eprint!("{}{end}", self.line());
        _ = std::io::stderr().flush();
    }

    fn end(self, flags: &Flags) -> i32 {
        println!("{}", self.line());
        println!("{}", totals_line(&self.sum));
        println!("{}", faults_lines(&self.sum));
        let mut kinds: Vec<(&str, Vec<u64>)> = Vec::new();
        for (seed, invariant) in &self.failed {
            match kinds.iter_mut().find(|(kind, _)| kind == invariant) {
                Some((_, seeds)) => seeds.push(*seed),
                None => kinds.push((invariant, vec![*seed])),
            }
        }
        for (kind, seeds) in kinds {
            println!("failed: {kind}: {} times, seeds {:?}", seeds.len(), &seeds[..seeds.len().min(8)]);
        }
        match (flags.lie, self.failed.is_empty()) {
            (Some(lie), true) => {
                println!("the lie {} was not caught", lie.name());
                EXIT_FAILED
            }
            (Some(_), false) | (None, true) => 0,
            (None, false) => EXIT_FAILED,
        }
    }
}
