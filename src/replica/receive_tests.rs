use super::*;
use crate::replica::receive_pool::LENT_BYTES_MAX;
use std::collections::VecDeque;

/// An empty buffer after a read of so many bytes, which did not fill it.
fn after_read(room_bytes: usize, received_bytes: usize) -> ReceiveBuffer {
    let mut received = ReceiveBuffer {
        buffer: BytesMut::with_capacity(100),
        room_bytes,
        ..ReceiveBuffer::new(Sender::Client)
    };
    received.spare_bytes = received.spare() + received_bytes;
    received
}

#[test]
fn the_room_for_a_read_follows_what_the_last_one_used() {
    let adapted = |mut received: ReceiveBuffer| {
        received.adapt_room(&mut ReceivePool::default());
        received.room_bytes
    };
    assert_eq!(adapted(after_read(64 * 1024, 16 * 1024)), 64 * 1024, "a quarter is enough to keep it");
    assert_eq!(adapted(after_read(64 * 1024, 16 * 1024 - 1)), 32 * 1024);
    assert_eq!(adapted(after_read(RECEIVE_BYTES_MIN, 0)), RECEIVE_BYTES_MIN);
    let mut filled = after_read(RECEIVE_BYTES_MIN, 0);
    filled.buffer.resize(filled.buffer.capacity(), 0);
    assert_eq!(adapted(filled), 2 * RECEIVE_BYTES_MIN);
    let nothing_fitted =
        ReceiveBuffer { room_bytes: RECEIVE_BYTES_MIN, ..ReceiveBuffer::new(Sender::Client) };
    assert_eq!(adapted(nothing_fitted), RECEIVE_BYTES_MIN);
}

#[test]
fn a_quiet_connection_gives_back_what_a_busy_time_has_left() {
    let kept = |allocation_bytes, room_bytes| {
        // As much was received as keeps the room.
        let mut received = after_read(room_bytes, room_bytes / 4);
        (received.allocation_bytes, received.frame_bytes) = (allocation_bytes, 7);
        received.adapt_room(&mut ReceivePool::default());
        assert_eq!((received.room_bytes, received.frame_bytes), (room_bytes, 7));
        received.allocation_bytes > 0
    };
    assert!(kept(128 * 1024, 64 * 1024));
    assert!(!kept(128 * 1024 + 1, 64 * 1024));
    assert!(!kept(1 << 20, 64 * 1024));
}

#[test]
fn what_is_missing_of_a_frame_is_known_from_its_length() {
    let mut received = ReceiveBuffer::new(Sender::Client);
    assert_eq!(received.missing_bytes(), 0);
    received.buffer.extend_from_slice(&100_i32.to_be_bytes());
    assert_eq!(received.missing_bytes(), 100);
    received.buffer.extend_from_slice(&[0; 30]);
    assert_eq!(received.missing_bytes(), 70);
    received.buffer.extend_from_slice(&[0; 80]);
    assert_eq!(received.missing_bytes(), 0);
    // A large frame gets room for what is there, doubled, or for as much as the last one had.
    for (last_frame_bytes, room) in [(0, 20_000), (1 << 20, 1 << 20)] {
        let mut received =
            ReceiveBuffer { frame_bytes: last_frame_bytes, ..ReceiveBuffer::new(Sender::Client) };
        received.buffer.extend_from_slice(&(4_i32 << 20).to_be_bytes());
        received.buffer.resize(20_000, 0);
        received.room(&mut ReceivePool::default());
        assert!((room..4 * room).contains(&received.spare()), "{} bytes of room", received.spare());
    }
}

#[test]
fn a_small_frame_without_records_does_not_pin_the_receive_buffer() {
    let shares_of = |sender, frame_bytes: usize, key: u8| {
        let mut received = ReceiveBuffer { allocation_bytes: 4000, ..ReceiveBuffer::new(sender) };
        received.buffer.extend_from_slice(&(frame_bytes as i32).to_be_bytes());
        received.buffer.resize(4 + frame_bytes + 500, 0);
        received.buffer[5] = key;
        let frame = received.next_frame(1 << 20).expect("a frame").expect("all of it");
        assert_eq!(frame.len(), frame_bytes);
        !frame.is_unique()
    };
    let shares = |frame_bytes, key| shares_of(Sender::Client, frame_bytes, key);
    assert!(!shares(999, 52), "a Vote that may wait");
    assert!(shares(1000, 52));
    assert!(shares(999, 0), "a Produce");
    assert!(shares(1500, 0));
    assert!(shares(999, 1), "a Fetch, of which nothing is kept");
    assert!(shares_of(Sender::Voter, 9, 52), "an answer, which may carry records");
}

/// `stream` as it comes in pieces of this size, and the frames that come out.
fn frames_of(sender: Sender, stream: &[u8], piece_bytes: usize) -> Vec<Bytes> {
    let (mut received, mut pool) = (ReceiveBuffer::new(sender), ReceivePool::default());
    let mut frames = Vec::new();
    for piece in stream.chunks(piece_bytes) {
        let room = received.room(&mut pool);
        assert!(room.capacity() > room.len(), "a read without room would look like the end of the stream");
        room.extend_from_slice(piece);
        while let Some(frame) = received.next_frame(100 << 20).expect("allowed") {
            frames.push(frame);
        }
    }
    assert!(received.buffer.is_empty(), "all of the stream was taken");
    frames
}

#[test]
fn frames_come_whole_wherever_the_stream_was_cut() {
    let sizes = [10, 0, 300_000, 9, FRAME_RESERVE_BYTES_MAX + 1, 8];
    let frames: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, size)| vec![at as u8 + 1; *size]).collect();
    let stream: Vec<u8> =
        frames.iter().flat_map(|frame| [&(frame.len() as i32).to_be_bytes()[..], frame].concat()).collect();
    for sender in [Sender::Client, Sender::Voter] {
        // A million bytes, a few at a time, take Miri half an hour.
        let is_quick = |piece_bytes: &usize| !cfg!(miri) || *piece_bytes >= 4_096;
        for piece_bytes in [4, 5, 13, 4_096, 300_000, stream.len()].into_iter().filter(is_quick) {
            assert!(frames_of(sender, &stream, piece_bytes) == frames, "{sender:?}, pieces of {piece_bytes}");
        }
        let small = &stream[..40];
        assert!(frames_of(sender, &small[..18], 1) == frames[..2], "{sender:?}, byte by byte");
    }
}

#[test]
fn a_large_frame_that_comes_in_many_pieces_is_moved_a_few_times() {
    const PIECE_BYTES: usize = 1460;
    let stream = [&(8_000_000_i32).to_be_bytes()[..], &vec![7; 8_000_000]].concat();
    let (mut received, mut pool) = (ReceiveBuffer::new(Sender::Client), ReceivePool::default());
    let (mut places, mut most_bytes) = (std::collections::BTreeSet::new(), 0);
    for piece in stream.chunks(PIECE_BYTES) {
        let room = received.room(&mut pool);
        room.extend_from_slice(piece);
        places.insert((room.as_ptr(), room.capacity()));
        most_bytes = most_bytes.max(room.capacity() - room.len());
    }
    assert!(received.next_frame(100 << 20).is_ok_and(|frame| frame.is_some()));
    assert!(places.len() <= 13, "moved {} times: it doubles from 8 KiB on", places.len());
    assert!(most_bytes <= 4_000_000 + RECEIVE_BYTES_MAX, "room for {most_bytes} bytes that have not come");
}

#[test]
fn a_voters_answer_is_received_in_one_piece() {
    const ANSWER_BYTES: usize = 1 << 20;
    let mut received = ReceiveBuffer::new(Sender::Voter);
    received.room(&mut ReceivePool::default()).extend_from_slice(&(ANSWER_BYTES as i32).to_be_bytes());
    assert_eq!(received.next_frame(100 << 20), Ok(None));
    assert!(received.room(&mut ReceivePool::default()).capacity() >= LENGTH_BYTES + ANSWER_BYTES);
    let first = received.buffer.as_ptr();
    received.room(&mut ReceivePool::default()).extend_from_slice(&[7; ANSWER_BYTES]);
    let frame = received.next_frame(100 << 20).expect("allowed").expect("whole");
    assert_eq!(frame.as_ptr(), first.wrapping_add(LENGTH_BYTES), "it lies where it was received");
    let room = received.room(&mut ReceivePool::default());
    assert!(room.capacity() - room.len() >= ANSWER_BYTES, "and there is room for another such one");
}

#[test]
fn a_length_is_believed_only_so_far() {
    for (sender, most) in
        [(Sender::Client, 2 * RECEIVE_BYTES_MIN), (Sender::Voter, 2 * FRAME_RESERVE_BYTES_MAX)]
    {
        let mut received = ReceiveBuffer::new(sender);
        received.room(&mut ReceivePool::default()).extend_from_slice(&(90_i32 << 20).to_be_bytes());
        assert!(received.room(&mut ReceivePool::default()).capacity() <= most, "{sender:?}");
    }
    for announced in [i32::MIN, -1, (1 << 20) + 1, i32::MAX] {
        let mut received = ReceiveBuffer::new(Sender::Voter);
        received.room(&mut ReceivePool::default()).extend_from_slice(&announced.to_be_bytes());
        assert!(received.next_frame(1 << 20).is_err(), "{announced}");
        assert!(received.next_frame(1 << 20).is_err(), "{announced}, asked again");
    }
}

/// Bytes that were moved for each frame of a stream that is read as fast as the room allows, and the reads; the frames are
/// kept for a while, as the log does.
fn moved_per_frame(sender: Sender, frame_sizes: &[usize]) -> (usize, usize) {
    let frame = |size: &usize| [&(*size as i32).to_be_bytes()[..], &vec![7; *size]].concat();
    let stream: Vec<u8> = frame_sizes.iter().flat_map(frame).collect();
    let (mut received, mut pool) = (ReceiveBuffer::new(sender), ReceivePool::default());
    let (mut kept, mut frames, mut moved_bytes, mut reads) = (VecDeque::new(), 0, 0, 0);
    let mut left = &stream[..];
    while !left.is_empty() {
        let (place, there) = (received.buffer.as_ptr(), received.buffer.len());
        let room = received.room(&mut pool);
        moved_bytes += if room.as_ptr() == place { 0 } else { there };
        let (read, rest) = left.split_at(left.len().min(room.capacity() - room.len()));
        room.extend_from_slice(read);
        (left, reads) = (rest, reads + 1);
        while let Some(frame) = received.next_frame(100 << 20).expect("allowed") {
            kept.push_back(frame);
            frames += 1;
            kept.drain(..kept.len().saturating_sub(100));
        }
    }
    assert_eq!(frames, frame_sizes.len());
    (moved_bytes / frames, reads)
}

#[test]
fn large_frames_that_are_alike_stay_where_they_are_received() {
    // 64 records of 1 KiB. A buffer as large as a read, and so much of the next frame as fits, moved 16 KiB for each.
    let (moved_bytes, reads) = moved_per_frame(Sender::Client, &[66_200; 1000]);
    assert!(moved_bytes < 600, "{moved_bytes} bytes moved for each frame");
    assert!(reads < 520, "{reads} reads: two frames in each");
    // Nearly alike: lengths of a few records differ by a byte.
    let sizes: Vec<usize> = (0..1000).map(|at| 66_200 + at * 7919 % 101).collect();
    let (moved_bytes, reads) = moved_per_frame(Sender::Client, &sizes);
    assert!(moved_bytes < 600, "{moved_bytes} bytes moved for each frame");
    assert!(reads < 520, "{reads} reads");
    // Those that differ are moved as before, but not more than that.
    let sizes: Vec<usize> = (0..1000).map(|at| 10_000 + at * 7919 % 100_000).collect();
    let (moved_bytes, _) = moved_per_frame(Sender::Client, &sizes);
    assert!(moved_bytes < 40_000, "{moved_bytes} bytes moved for each frame");
}

#[test]
fn a_buffer_is_received_into_again_when_its_frames_are_gone() {
    let mut pool = ReceivePool::default();
    let mut received = ReceiveBuffer {
        room_bytes: RECEIVE_BYTES_MAX,
        frame_bytes: 66_200,
        ..ReceiveBuffer::new(Sender::Client)
    };
    let mut fill = |pool: &mut ReceivePool| {
        let frames = [(); 2].map(|()| {
            received.room(pool).extend_from_slice(&[&66_200_i32.to_be_bytes()[..], &[7; 66_200]].concat());
            received.next_frame(1 << 20).expect("allowed").expect("whole")
        });
        assert!(frames.iter().all(|frame| frame.len() == 66_200));
        (frames[0].as_ptr(), frames)
    };
    let ((first, first_frames), (second, second_frames)) = (fill(&mut pool), fill(&mut pool));
    assert_ne!(first, second);
    drop(first_frames);
    let (third, third_frames) = fill(&mut pool);
    assert_eq!(third, first, "it came back");
    drop((second_frames, third_frames));
    assert_eq!(received.allocation_bytes(), 2 * (LENGTH_BYTES + 66_200) + FRAME_SLACK_BYTES);
    // Another connection of the core.
    let busy = ReceiveBuffer { room_bytes: RECEIVE_BYTES_MAX, ..ReceiveBuffer::new(Sender::Client) };
    let mut other = ReceiveBuffer { frame_bytes: 66_200, ..busy };
    assert_eq!(other.room(&mut pool).as_ptr().wrapping_add(LENGTH_BYTES), second);
}

#[test]
fn the_end_of_a_large_frame_is_received_where_it_began() {
    for left in [1, READ_BYTES_MIN - 1] {
        let mut received =
            ReceiveBuffer { buffer: BytesMut::with_capacity(50_000), ..ReceiveBuffer::new(Sender::Client) };
        received.buffer.extend_from_slice(&((50_000 - LENGTH_BYTES) as i32).to_be_bytes());
        received.buffer.resize(50_000 - left, 7);
        let place = received.buffer.as_ptr();
        assert_eq!(received.room(&mut ReceivePool::default()).as_ptr(), place, "{left} bytes are missing");
    }
}

#[test]
fn the_larger_answers_of_a_voter_are_remembered_for_a_while() {
    let mut received = ReceiveBuffer::new(Sender::Voter);
    received.note_frame(1 << 20);
    received.note_frame(100);
    assert_eq!((received.frame_bytes, received.usual_bytes()), (15 << 16, ANSWER_ROOM_STEP));
    received.note_frame(ANSWER_ROOM_STEP);
    assert_eq!(received.usual_bytes(), 2 * ANSWER_ROOM_STEP, "with its length it needs more");
    (0..200).for_each(|_| received.note_frame(100));
    assert_eq!((received.frame_bytes, received.usual_bytes()), (100, RECEIVE_BYTES_MIN));
}

#[test]
fn a_voter_whose_answers_are_large_gets_large_buffers_until_all_are_small() {
    let mut received = ReceiveBuffer::new(Sender::Voter);
    received.note_frame(LARGE_ANSWER_BYTES - 1);
    assert_eq!(received.usual_bytes(), LENGTH_BYTES + LARGE_ANSWER_BYTES - 1, "it fits as a whole");
    received.note_frame(LARGE_ANSWER_BYTES);
    assert_eq!(received.usual_bytes(), ANSWER_ROOM_STEP);
    (0..200).for_each(|_| received.note_frame(SMALL_ANSWER_BYTES));
    assert_eq!(received.usual_bytes(), ANSWER_ROOM_STEP);
    received.note_frame(SMALL_ANSWER_BYTES - 1);
    assert_eq!(received.usual_bytes(), RECEIVE_BYTES_MIN);
    let mut client = ReceiveBuffer::new(Sender::Client);
    client.note_frame(LARGE_ANSWER_BYTES);
    assert_eq!(client.usual_bytes(), RECEIVE_BYTES_MIN);
}

/// Each has room for many small frames, and keeps a part of one.
#[test]
#[cfg_attr(miri, ignore = "it receives megabytes, byte by byte")]
fn all_busy_clients_together_have_a_bound() {
    const CLIENTS: usize = 400;
    const FRAME_BYTES: usize = 100;
    let mut pool = ReceivePool::default();
    let mut crowd: Vec<(ReceiveBuffer, usize)> =
        (0..CLIENTS).map(|_| (ReceiveBuffer::new(Sender::Client), 0)).collect();
    for _ in 0..8 {
        for (received, sent) in &mut crowd {
            let room = received.room(&mut pool);
            while room.len() < room.capacity() {
                room.extend_from_slice(&[if *sent % FRAME_BYTES == 3 { FRAME_BYTES as u8 - 4 } else { 0 }]);
                *sent += 1;
            }
            while received.next_frame(1 << 20).unwrap().is_some() {}
        }
    }
    let all: usize = crowd.iter().map(|(received, _)| received.allocation_bytes()).sum();
    let (least, most) = (CLIENTS * RECEIVE_BYTES_MIN, CLIENTS * 2 * RECEIVE_BYTES_MIN + LENT_BYTES_MAX);
    assert!(all > least + LENT_BYTES_MAX / 2, "who came first has room for more: {all}");
    assert!(all <= most && pool.lent_bytes() <= LENT_BYTES_MAX + CLIENTS * RECEIVE_BYTES_MIN, "{all}");
    crowd.clear();
    assert_eq!(pool.lent_bytes(), 0);
}
