use super::*;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

/// What the thread wrote; a held lock is a reader that does not read.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_string).collect()
    }
}

fn start(output: &Output) -> Stream<usize> {
    Stream::start("test", output.clone(), |said: Said<'_, usize>| match said {
        Said::Item(n) => format!("item {n}\n"),
        Said::Dropped(n) => format!("dropped {n}\n"),
    })
    .unwrap()
}

#[test]
fn a_stuck_reader_costs_items_which_are_counted_and_nobody_waits() {
    let output = Output::default();
    let stream = start(&output);
    let sent = QUEUED_MAX + 500;
    let held = output.0.lock().unwrap();
    let began = Instant::now();
    (0..sent).for_each(|n| stream.push(n));
    assert!(began.elapsed() < Duration::from_secs(5), "a push waited for the output");
    drop(held);
    // A flush waits for so long as is good for the end of a process: on a busy machine the thread needs longer.
    let (mut written, mut dropped) = (0, 0);
    for _ in 0..20 {
        stream.flush();
        (written, dropped) = counted(&output.lines());
        if written + dropped >= sent {
            break;
        }
    }
    assert!(dropped >= 498, "{dropped}");
    assert_eq!(written + dropped, sent, "each item is written or counted");
}

/// Items that were written, and those that are said to be dropped.
fn counted(lines: &[String]) -> (usize, usize) {
    let written = lines.iter().filter(|line| line.starts_with("item ")).count();
    let dropped = lines.iter().filter_map(|line| line.strip_prefix("dropped "));
    (written, dropped.map(|n| n.parse::<usize>().unwrap()).sum())
}

#[test]
fn neither_a_flush_nor_last_words_wait_for_ever() {
    let output = Output::default();
    let stream = start(&output);
    let held = output.0.lock().unwrap();
    (0..QUEUED_MAX + 10).for_each(|n| stream.push(n));
    let began = Instant::now();
    stream.push_last(1);
    stream.flush();
    assert!(began.elapsed() < FINISH_WAIT * 30, "for as long as nobody reads");
    drop(held);
}

/// On a busy machine the thread may not run within the time that last words have: then they are said once more.
#[test]
fn last_words_reach_a_reader_that_was_only_slow() {
    let are_heard = || {
        let output = Output::default();
        let stream = start(&output);
        let held = output.0.lock().unwrap();
        (0..QUEUED_MAX + 10).for_each(|n| stream.push(n));
        drop(held);
        stream.push_last(123_456);
        stream.flush();
        output.lines().iter().any(|line| line == "item 123456")
    };
    assert!((0..5).any(|_| are_heard()));
}

#[test]
fn a_full_pipe_is_given_up_and_one_with_room_is_written() {
    let (mut reader, writer) = io::pipe().unwrap();
    write_in_time(writer.as_raw_fd(), b"with room\n", FINISH_WAIT);
    // More than any pipe holds.
    let began = Instant::now();
    write_in_time(writer.as_raw_fd(), &vec![b'x'; 2 << 20], Duration::from_millis(100));
    assert!(began.elapsed() < Duration::from_secs(10), "it waited for a reader that does not read");
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("with room\nxxx") && text.len() < 2 << 20);
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    write_in_time(writer.as_raw_fd(), b"nobody hears it\n", FINISH_WAIT);
}
