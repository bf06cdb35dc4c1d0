//! Bounds that are not configuration.

/// `socket.request.max.bytes`: a longer frame closes the connection before it is given memory.
pub const FRAME_SIZE_MAX: usize = 100 * 1024 * 1024;
/// Key, version and correlation id: what every request has.
pub const FRAME_SIZE_MIN: usize = 8;

/// Requests of one connection that were received and not begun; with more, its socket is not read.
pub(crate) const BACKLOG_MAX: usize = 16;
pub(crate) const BACKLOG_BYTES_MAX: usize = 1024 * 1024;
/// Produces of one connection on their way to storage at once.
pub(crate) const PRODUCES_IN_FLIGHT_MAX: usize = 64;
pub(crate) const PRODUCE_BYTES_IN_FLIGHT_MAX: usize = 32 * 1024 * 1024;
/// Partitions of one connection of which it is remembered whose producer the leader knows. Of any other, batches go one at a time.
pub(crate) const KNOWN_PRODUCERS_MAX: usize = 2_048;
/// Partitions of one connection of which it is remembered what was refused. Of any other, what is behind is told what the leader says.
pub(crate) const REFUSALS_MAX: usize = 2_048;
/// Answers that a client has not yet taken; with more, its next request waits.
pub(crate) const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// How long a produce waits for a leader after a definite "not here". Shorter than any client's own patience, so that the
/// client hears the reason.
pub(crate) const PRODUCE_RETRY_MS_MAX: u64 = 5_000;
/// Without news of the metadata. A new leader learns that it leads at about the time we do, so its first "not here" is soon out of date.
pub(crate) const RETRY_BACKOFF_MS: u64 = 20;
/// A storage node that owes an answer gets this much longer than it was told.
pub(crate) const ANSWER_GRACE_MS: u64 = 2_000;
/// And after it was told to stop waiting, this much.
pub(crate) const CANCEL_GRACE_MS: u64 = 200;
/// Reads that carry no time-out of their own.
pub(crate) const READ_TIMEOUT_MS: u64 = 10_000;
pub(crate) const PRODUCE_TIMEOUT_MS_MAX: u64 = 300_000;
pub(crate) const FETCH_WAIT_MS_MAX: u64 = 300_000;
pub(crate) const ADMIN_TIMEOUT_MS_MAX: u64 = 300_000;
/// `fetch.max.bytes` of a broker.
pub(crate) const FETCH_BYTES_MAX: usize = 55 * 1024 * 1024;
/// The least a fetch may ask for when memory is short. One batch is returned even if it is larger.
pub(crate) const FETCH_BYTES_MIN: usize = 64 * 1024;
/// How long a metadata answer waits for a topic made on demand, or for a leader, before it says that there is none.
pub(crate) const AUTO_CREATE_WAIT_MS: u64 = 5_000;
pub(crate) const LEADER_WAIT_MS: u64 = 1_000;
/// How long FindCoordinator waits for the topic of the groups, which the first one makes, and for a leader in it.
pub(crate) const COORDINATOR_WAIT_MS: u64 = 5_000;
/// How long a request of a group waits for a coordinator that moves or loads, before the client is told so.
pub(crate) const COORDINATOR_RETRY_MS_MAX: u64 = 5_000;
/// What a coordinator may take to answer, its write included (`offsets.commit.timeout.ms` is 5 s).
pub(crate) const COORDINATOR_ANSWER_MS: u64 = 10_000;
/// How many groups one request may name: each takes about a kilobyte until it is answered, however short its name.
pub(crate) const GROUPS_PER_REQUEST_MAX: usize = 50_000;
/// What a JoinGroup may take beyond its rebalance time-out. Clients give up sooner.
pub(crate) const JOIN_GRACE_MS: u64 = 15_000;
/// What a SyncGroup may take: it waits for the group's leader, for as long as the group's longest rebalance time-out, which is
/// not told here. Kafka's largest `group.max.session.timeout.ms`; clients give up sooner.
pub(crate) const SYNC_WAIT_MS_MAX: u64 = 1_800_000;
/// How long a client that asks for the cluster waits for a live broker. Kafka's brokers serve nobody before they are live; told
/// of a cluster without brokers, librdkafka's admin client asks again only after half a minute.
pub(crate) const BROKER_WAIT_MS: u64 = 5_000;

/// `max.incremental.fetch.session.cache.slots`
pub(crate) const FETCH_SESSIONS_MAX: usize = 1_000;
/// Partitions remembered over all sessions.
pub(crate) const FETCH_SESSION_PARTITIONS_MAX: usize = 1_000_000;
/// `min.incremental.fetch.session.eviction.ms`
pub(crate) const FETCH_SESSION_EVICTION_MS: u64 = 120_000;

/// How long the metadata may take to send clients elsewhere before a gateway that stops does so without.
pub(crate) const LEAVE_MS: u64 = 1_000;
/// How long a client that was told to go elsewhere has for asking where that is. librdkafka then moves by itself; a Java client keeps what it
/// is connected to until that ends. Less than the pause of either's next attempt, which is 100 ms.
pub(crate) const MOVE_MS: u64 = 50;
/// How long once it knows: whatever it sends until then is refused in vain. And how long until one that was busy is looked at again.
pub(crate) const END_MS: u64 = 2;

pub(crate) const CONTROLLER_RETRY_MS: u64 = 100;
pub(crate) const CONTROLLER_WELCOME_MS: u64 = 3_000;

const _: () = assert!(FETCH_BYTES_MIN < FETCH_BYTES_MAX);
const _: () = assert!(FRAME_SIZE_MIN < FRAME_SIZE_MAX);
const _: () = assert!(BACKLOG_BYTES_MAX < FRAME_SIZE_MAX);
