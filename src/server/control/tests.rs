use super::*;
use crate::config::Settings;
use crate::replica::room::frames::{Frames, Hold};
use crate::replica::room::limits::core_rooms;
use crate::replica::room::taken::Bounded;
use crate::replica::room::turns::Turns;
use crate::replica::slowest::{Passed, SlowRequest};
use crate::replica::{ConnectionId, Counters, VoterStatus};
use serde_json::Value;
use std::io::Read;
use std::net::TcpStream;
use std::path::Path;

fn config(directory: &Path, http: &str) -> Config {
    let mut settings = Settings::new();
    let text = format!(
        "node.id=1\ncontroller.quorum.voters=1@localhost:9092,2@localhost:9093\nlog.dirs={}\nkraft.http.listener={http}",
        directory.display()
    );
    settings.read_properties("test", text.as_bytes()).unwrap();
    crate::config::load(&settings).unwrap().config
}

#[derive(Clone, Default)]
struct Stdout(Arc<Mutex<Vec<u8>>>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stdout {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Running {
    control: Control,
    stdout: Stdout,
    directory: tempfile::TempDir,
}

fn start(interval: Duration) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let stdout = Stdout::default();
    let config = config(directory.path(), "127.0.0.1:0");
    let control = Control::start_with(&config, Box::new(stdout.clone()), interval).unwrap();
    Running { control, stdout, directory }
}

impl Running {
    /// Status code, head and body of the answer to raw bytes.
    fn ask(&self, request: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.control.http_address().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request).unwrap();
        answer(&mut stream)
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }

    fn wait_for(&self, what: impl Fn(&Running) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what(self) {
            assert!(Instant::now() < deadline, "waited in vain; stdout: {}", self.stdout.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn hlogs(&self) -> Vec<std::path::PathBuf> {
        std::fs::read_dir(self.directory.path()).unwrap().map(|e| e.unwrap().path()).collect()
    }
}

fn answer(stream: &mut TcpStream) -> (u16, String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_string(), body.to_string())
}

fn leader() -> Status {
    let voter =
        |node_id, log_end_offset, lag| VoterStatus { node_id, log_end_offset, lag, ..VoterStatus::default() };
    Status {
        node_id: 1,
        role: "leader",
        epoch: 7,
        leader_id: Some(1),
        high_watermark: Some(90),
        log_end_offset: 100,
        flushed_offset: 95,
        ready: true,
        log_in_doubt: true,
        voters: vec![voter(1, 100, 0), voter(2, 90, 10)],
        counters: Counters { produce_requests: 12, flushes: 5, ..Counters::default() },
        ..Status::default()
    }
}

/// `count` requests of 1 ms to 2 ms each, with 100 bytes and one record.
fn stages(count: u64) -> Stages {
    let mut stages = Stages::new();
    for i in 0..count {
        let ns = 1_000_000 + i * 1_000_000 / count;
        stages.received_to_decoded.record(ns / 1000).unwrap();
        stages.end_to_end.record(ns).unwrap();
        let answered_ns = crate::io::clock::monotonic_ns();
        let passed = Passed { received_ns: answered_ns - ns, answered_ns, ..Passed::default() };
        stages.slowest.offer(SlowRequest { passed, error: None, base_offset: i as i64, connection: 7 });
        stages.committed_bytes += 100;
        stages.committed_records += 1;
    }
    stages
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn pages_before_the_first_status() {
    let running = start(LONG);
    assert_eq!(running.get("/live").0, 200);
    assert_eq!(running.get("/ready"), (503, running.get("/ready").1, "not ready: starting\n".to_string()));
    let (code, _, body) = running.get("/status");
    assert_eq!(
        (code, serde_json::from_str::<Value>(&body).unwrap()["role"].as_str()),
        (503, Some("starting"))
    );
    assert!(running.get("/metrics").2.contains("kraft_uptime_seconds "));
    assert!(running.get("/").2.contains("kraft node: starting"));
    assert_eq!(serde_json::from_str::<Value>(&running.get("/latency").2).unwrap()["unit"], "us");
    running.control.finish();
}

#[test]
fn status_and_ready_follow_what_is_published() {
    let running = start(LONG);
    running.control.publish_status(leader());
    running.control.connections(PlaceCounts { clients: 2, guests: 0, voters: 1 });
    let (code, head, body) = running.get("/status?pretty");
    assert_eq!(code, 200);
    assert!(head.contains("Content-Type: application/json") && head.contains("Connection: close"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    let status: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&status["role"], &status["epoch"], &status["leader_id"]),
        (&"leader".into(), &7.into(), &1.into())
    );
    assert_eq!((&status["voters"][1]["lag"], &status["high_watermark"]), (&10.into(), &90.into()));
    assert_eq!((&status["connections"], &status["counters"]["flushes"]), (&3.into(), &5.into()));
    assert_eq!(running.get("/ready").0, 200);
    assert!(running.get("/").2.contains("kraft node 1: leader in epoch 7"));
    let not_ready = Some("my disk has no room".to_string());
    running.control.publish_status(Status { ready: false, not_ready, ..leader() });
    assert_eq!(running.get("/ready").2, "not ready: my disk has no room\n");
    running.control.publish_status(Status { ready: false, leader_id: None, ..leader() });
    assert_eq!(
        (running.get("/ready").0, running.get("/ready").2.contains("no leader is known")),
        (503, true)
    );
    running.control.finish();
}

#[test]
fn metrics_are_prometheus_text() {
    // So long shows the page what an interval had: longer than it takes to ask, on any machine.
    let running = start(Duration::from_millis(1500));
    running.control.publish_status(leader());
    running.control.connections_refused(1);
    running.control.publish_stages(stages(1000));
    // The reporter has merged them.
    running.wait_for(|r| r.get("/metrics").2.contains("_count{stage=\"end_to_end\"} 1000"));
    let (_, head, text) = running.get("/metrics");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    for line in [
        "kafka_server_raftmetrics_current_state{current_state=\"leader\"} 1",
        "kafka_server_raft_metrics_current_state{current_state=\"leader\",state=\"leader\"} 1",
        "kafka_server_raft_metrics_current_state_info{current_state=\"leader\",state=\"leader\"} 1",
        "kafka_server_raftmetrics_current_epoch 7.0",
        "kafka_server_raft_metrics_current_epoch 7.0",
        "kafka_server_raft_metrics_high_watermark 90.0",
        "kafka_server_raft_metrics_number_of_voters 2.0",
        "kafka_server_raft_metrics_election_latency_avg NaN",
        "kraft_campaigns_total{cause=\"leader_gone\"} 0",
        "kraft_device_flush_seconds_count 0",
        "kraft_log_in_doubt 1",
        "kraft_log_damaged 0",
        "kraft_voter_lag_records{voter=\"2\"} 10",
        "kraft_produce_requests_total 12",
        "kraft_connections_refused_total 1",
        "kraft_produce_stage_seconds_count{stage=\"end_to_end\"} 1000",
        "kraft_produce_stage_seconds_bucket{le=\"0.0005\",stage=\"end_to_end\"} 0",
        "kraft_produce_stage_seconds_bucket{le=\"0.002\",stage=\"end_to_end\"} 1000",
        "kraft_produce_stage_seconds_bucket{le=\"+Inf\",stage=\"end_to_end\"} 1000",
        "# TYPE kraft_produce_stage_seconds histogram",
    ] {
        assert!(text.lines().any(|l| l == line), "'{line}' is not in:\n{text}");
    }
    let sum =
        text.lines().find_map(|l| l.strip_prefix("kraft_produce_stage_seconds_sum{stage=\"end_to_end\"} "));
    assert!((sum.unwrap().parse::<f64>().unwrap() - 1.5).abs() < 0.01, "{sum:?}");
    assert!(!text.contains("follower"), "only the present state is told");
    assert!(text.ends_with("# EOF\n"));
    running.control.finish();
}

#[test]
fn metrics_say_what_is_taken_of_all_cores_and_its_bounds() {
    let running = start(LONG);
    let config = config(running.directory.path(), "127.0.0.1:0");
    let rooms = core_rooms(&config, 2);
    rooms[0].answers.add(1_000, 0);
    rooms[1].answers.add(234, 0);
    rooms[1].voters_answers.add(5, 0);
    let mut frames = Frames::new(rooms[1].frames);
    assert!(frames.may_read(ConnectionId(1), &mut Hold::default(), 1 << 20, false, 0));
    rooms[1].gauges.publish(&frames, &Turns::new(rooms[1].round), 90);
    let most = PlaceCounts { clients: 10, guests: 4, voters: 16 };
    let large_max = rooms.iter().map(|room| room.frames.bytes_max).sum::<usize>();
    running.control.watch_room(most, rooms);
    running.control.connections(PlaceCounts { clients: 3, guests: 2, voters: 1 });
    let mut status = leader();
    status.watched.device_reads = Bounded { taken: 70, max: 700 };
    status.watched.device_reads_waiting = 3;
    status.watched.heavy_requests = 2;
    status.watched.heavy_bytes = Bounded { taken: 80, max: 800 };
    running.control.publish_status(status);
    let text = running.get("/metrics").2;
    let large_max = format!("kraft_large_requests_max_bytes {large_max}");
    for line in [
        "kraft_connections 6",
        "kraft_places_taken{holder=\"client\"} 3",
        "kraft_places_taken{holder=\"guest\"} 2",
        "kraft_places_taken{holder=\"voter\"} 1",
        "kraft_places_max{holder=\"voter\"} 16",
        "kraft_unsent_answers_bytes{to=\"clients\"} 1234",
        "kraft_unsent_answers_bytes{to=\"voters\"} 5",
        "kraft_large_requests_held_bytes 1048576",
        "kraft_large_requests_waiting_bytes 0",
        &large_max,
        "kraft_waiting_connections{wait_for=\"memory\"} 0",
        "kraft_waiting_connections{wait_for=\"turn\"} 0",
        "kraft_device_reads_held_bytes 70",
        "kraft_device_reads_max_bytes 700",
        "kraft_device_reads_waiting 3",
        "kraft_heavy_requests_waiting 2",
        "kraft_heavy_requests_waiting_bytes 80",
        "kraft_heavy_requests_max_bytes 800",
        "kraft_heavy_requests_handed_bytes 90",
        "kraft_heavy_requests_handed_max_bytes 16777216",
    ] {
        assert!(text.lines().any(|l| l == line), "'{line}' is not in:\n{text}");
    }
    running.control.finish();
}

#[test]
fn latency_shows_percentiles_of_each_stage() {
    let running = start(Duration::from_millis(50));
    running.control.publish_stages(stages(1000));
    running.wait_for(|r| !r.stdout.text().is_empty());
    let latency: Value = serde_json::from_str(&running.get("/latency").2).unwrap();
    let end_to_end = &latency["since_start"]["end_to_end"];
    assert_eq!(end_to_end["count"], 1000);
    assert!((end_to_end["p99"].as_f64().unwrap() - 1990.0).abs() < 10.0, "{end_to_end}");
    assert!((latency["since_start"]["received_to_decoded"]["p50"].as_f64().unwrap() - 1.5).abs() < 0.1);
    running.control.finish();
}

#[test]
fn the_slowest_requests_are_shown_one_by_one() {
    let running = start(Duration::from_millis(50));
    running.control.publish_stages(stages(1000));
    running.wait_for(|r| !r.stdout.text().is_empty());
    let slow: Value = serde_json::from_str(&running.get("/slow").2).unwrap();
    let shown: Vec<i64> =
        slow["requests"].as_array().unwrap().iter().map(|r| r["base_offset"].as_i64().unwrap()).collect();
    assert_eq!(shown, (992..1000).rev().collect::<Vec<i64>>(), "{slow}");
    assert_eq!(slow["requests"][0]["end_to_end"], 1999.0);
    running.control.finish();
}

#[test]
fn bad_requests_get_their_codes() {
    let running = start(LONG);
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(9000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    let rows: [(&[u8], u16); 7] = [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"POST /status HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"DELETE / HTTP/1.0\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / KAFKA/9\r\n\r\n", 400),
        (long_path.as_bytes(), 431),
        (many_headers.as_bytes(), 431),
    ];
    for (request, code) in rows {
        let (answered, head, _) = running.ask(request);
        assert_eq!(answered, code, "{:?}", String::from_utf8_lossy(&request[..request.len().min(60)]));
        assert_eq!(head.contains("Allow: GET, HEAD"), code == 405);
    }
    let (code, head, body) = running.ask(b"HEAD /live HTTP/1.1\r\n\r\n");
    assert_eq!((code, body.as_str()), (200, ""));
    assert!(head.contains("Content-Length: 5"));
    let mut half = TcpStream::connect(running.control.http_address().unwrap()).unwrap();
    half.write_all(b"GET / HTT").unwrap();
    half.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(answer(&mut half).0, 400);
    running.control.finish();
}

#[test]
fn a_silent_connection_is_closed_in_time() {
    let running = start(LONG);
    let mut silent = TcpStream::connect(running.control.http_address().unwrap()).unwrap();
    // It trickles one byte, and its time goes on all the same.
    let began = Instant::now();
    silent.write_all(b"G").unwrap();
    assert_eq!(answer(&mut silent).0, 408);
    assert!(began.elapsed() < Duration::from_secs(19), "in time, and not when this test gave up");
    running.control.finish();
}

#[test]
fn a_crowd_that_asks_nothing_makes_room_for_who_asks() {
    let running = start(LONG);
    let address = running.control.http_address().unwrap();
    let more_than_places = places::CONNECTIONS_MAX + 10;
    for _ in 0..3 {
        let mut silent: Vec<TcpStream> =
            (0..more_than_places).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(running.get("/live").0, 200);
        // Those who were silent for longest made room: each new one took the place of one of them, the last ones keep theirs.
        silent[0].set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        assert!(silent[0].read(&mut [0; 64]).is_ok(), "the first of them still has its place");
        let last = silent.last_mut().unwrap();
        last.write_all(b"GET /live HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(answer(last).0, 200);
    }
    running.control.finish();
}

#[test]
fn all_addresses_of_the_host_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path(), "localhost:0");
    let control = Control::start_with(&config, Box::new(io::sink()), LONG).unwrap();
    let port = control.http_address().unwrap().port();
    for host in ["127.0.0.1", "::1"] {
        let Ok(mut stream) = TcpStream::connect((host, port)) else {
            assert!(std::net::TcpListener::bind((host, 0)).is_err(), "{host} is not served");
            continue;
        };
        stream.write_all(b"GET /live HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(answer(&mut stream).0, 200, "{host}");
    }
    control.finish();
}

#[test]
fn port_in_use_is_an_error_that_names_the_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let port = taken.local_addr().unwrap().port();
    let error =
        Control::start(&config(directory.path(), &format!("127.0.0.1:{port}")), Box::new(std::io::sink()))
            .err()
            .unwrap();
    let ControlError::Listener(line) = error else { panic!("{error:?}") };
    assert!(line.starts_with(&format!("kraft.http.listener=127.0.0.1:{port} cannot be bound")), "{line}");
}

#[test]
fn line_is_kafkas_and_an_idle_node_is_quiet() {
    let running = start(Duration::from_millis(100));
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(running.stdout.text(), "", "idle from the start");
    running.control.publish_stages(stages(1000));
    running.wait_for(|r| r.stdout.text().lines().count() == 2);
    std::thread::sleep(Duration::from_millis(350));
    let text = running.stdout.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "one with the load, one after it, then silence: {text}");
    assert!(lines[0].ends_with(" p75 2.0 p99 2.0 p999"), "{}", lines[0]);
    let throughput: f64 = lines[0].split([' ', ',']).nth(2).unwrap().parse().unwrap();
    assert!(throughput > 10_000.0, "100,000 bytes in about 0.1 s: {throughput}");
    assert_eq!(lines[1], "Throughput (bytes/second): 0.00, Latency (ms): 0.0 p75 0.0 p99 0.0 p999");
    running.control.finish();
}

#[test]
fn finish_writes_the_last_interval_and_the_table() {
    let running = start(LONG);
    let other = running.control.clone();
    other.publish_stages(stages(10));
    other.publish_stages(stages(20));
    assert!(running.hlogs().is_empty());
    running.control.clone().finish();
    let text = running.stdout.text();
    assert!(text.starts_with("Throughput (bytes/second): "), "{text}");
    let row = text.lines().find(|l| l.starts_with("end_to_end ")).unwrap_or_else(|| panic!("{text}"));
    assert_eq!(row.split_whitespace().nth(1), Some("30"));
    let hlogs = running.hlogs();
    assert_eq!(hlogs.len(), 1);
    assert!(text.contains(&format!("Interval log: {}", hlogs[0].display())));
    let log = std::fs::read_to_string(&hlogs[0]).unwrap();
    assert_eq!(log.lines().filter(|l| l.starts_with("Tag=")).count(), 2, "stages with values only: {log}");
    // Nothing listens any more, and a handle that is still around does no harm.
    assert!(other.http_address().is_none());
    other.publish_stages(stages(1));
    other.publish_status(leader());
    other.finish();
}

#[test]
fn nothing_recorded_prints_and_writes_nothing() {
    let running = start(LONG);
    running.control.publish_stages(Stages::new());
    running.control.clone().finish();
    assert_eq!((running.stdout.text().as_str(), running.hlogs().len()), ("", 0));
}

/// New ones would be cleared by the kernel, at the expense of the core that records.
#[test]
fn histograms_that_were_read_are_recorded_into_again() {
    let running = start(LONG);
    let is_there = || lock(&running.control.shared.cleared_stages).is_some();
    assert!(!is_there());
    running.control.publish_stages(stages(5));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_there() {
        assert!(Instant::now() < deadline, "the reporter gives none back");
        std::thread::sleep(Duration::from_millis(1));
    }
    let cleared = running.control.cleared_stages();
    assert!(cleared.named().iter().all(|(_, histogram)| histogram.is_empty()));
    assert_eq!((cleared.committed_bytes, cleared.committed_records, is_there()), (0, 0, false));
    running.control.finish();
}

#[test]
fn publishing_never_waits_for_a_reader() {
    let running = start(LONG);
    running.control.publish_status(leader());
    let status = lock(&running.control.shared.status);
    let latency = lock(&running.control.shared.latency);
    let began = Instant::now();
    running.control.publish_status(Status { epoch: 8, ..leader() });
    // The reporter is stuck behind the reader of the latencies: what does not fit is counted.
    for _ in 0..QUEUED_STAGES_MAX + 10 {
        running.control.publish_stages(Stages::new());
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(status.as_ref().unwrap().status.epoch, 7, "skipped");
    assert!(running.control.shared.lost_stages.load(Ordering::Relaxed) >= 9);
    drop((status, latency));
    running.control.finish();
}

/// Who has just seen an answer finds its effect in each page, although nothing is published without being asked for.
#[test]
fn a_page_shows_what_is_so_when_it_is_asked_for() {
    let running = start(LONG);
    let (asked, newest) = (AtomicUsize::new(20), Arc::new(AtomicUsize::new(9)));
    let (control, published) = (running.control.clone(), newest.clone());
    running.control.wake_with(move || {
        assert!(control.take_status_wanted() && !control.take_status_wanted());
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        // Each second time another reader is in the way: it is asked for again.
        let _reader = (asked % 2 == 0).then(|| lock(&control.shared.status));
        let epoch = asked / 2;
        control.publish_status(Status { epoch: epoch as i32, ready: epoch % 2 == 0, ..leader() });
        published.store(if asked % 2 == 0 { epoch - 1 } else { epoch }, Ordering::Relaxed);
    });
    // A page waits for what is new only for a while, which on a busy machine may pass without any: then the next one shows it.
    let is_shown = |shows: &dyn Fn(usize) -> bool| {
        assert!((0..5).any(|_| shows(newest.load(Ordering::Relaxed) + 1)));
    };
    is_shown(&|epoch| running.get("/").2.contains(&format!("in epoch {epoch}")));
    is_shown(&|epoch| running.get("/status").2.contains(&format!("\"epoch\": {epoch},")));
    is_shown(&|epoch| running.get("/metrics").2.contains(&format!("current_epoch {epoch}.0")));
    for _ in 0..2 {
        is_shown(&|epoch| (running.get("/ready").0 == 200) == (epoch % 2 == 0));
    }
    running.control.finish();
}

#[test]
fn a_panic_lets_go_of_the_port() {
    let running = start(LONG);
    let (address, control) = (running.control.http_address().unwrap(), running.control.clone());
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _finish = FinishAtEnd(control);
        panic!("as a node would");
    }));
    assert!(unwound.is_err());
    std::net::TcpListener::bind(address).expect("it is free");
}
