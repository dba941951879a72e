//! What a walk does to a client beside it.

use super::walks::walk_for;
use super::*;

/// How much slower a client may be beside a walk.
const MOST_LATENCY: f64 = 1.2;

/// How long a client is watched.
const PHASE: Duration = Duration::from_secs(15);

/// What a walk does to a client whose data fill most of the server's cache.
pub async fn cache(results: &mut String) -> Vec<String> {
    const BUFFERS: u64 = 16_384;
    let server = Postgres::builder(MAJOR)
        .setting("shared_buffers", "128MB")
        .setting("autovacuum", "off")
        .start()
        .await;
    server.sql("postgres", "CREATE DATABASE synapse").await;
    let rows_of_client = BUFFERS * 8 / 10 * 7;
    server
        .sql(
            "synapse",
            &format!(
                "CREATE EXTENSION pg_buffercache;
                 CREATE TABLE events (n bigint); CREATE TABLE state_groups_state (n bigint);
                 CREATE TABLE schema_version (n bigint); CREATE TABLE background_updates (n bigint);
                 CREATE TABLE applied_schema_deltas (n bigint);
                 CREATE TABLE devices (user_id text, device_id text, hidden boolean, last_seen bigint);
                 INSERT INTO devices SELECT '@person' || n, 'DEVICE' || n, false, n
                   FROM generate_series(1, 3000000) AS n;
                 CREATE TABLE client (n bigint PRIMARY KEY, filler text);
                 INSERT INTO client SELECT n, repeat('x', 1000)
                   FROM generate_series(1, {rows_of_client}) AS n"
            ),
        )
        .await;
    for table in ["devices", "client"] {
        server
            .sql("synapse", &format!("VACUUM ANALYZE {table}"))
            .await;
    }
    Role::Strict.create(&server, "exporter", &["synapse"]).await;
    let mut all = collectors::synapse::all().into_iter();
    let devices = all.find(|one| one.name == "synapse_devices").unwrap();
    let plan = Plan::new(devices);
    let mut phases: [Vec<Phase>; 3] = Default::default();
    phase(&server, rows_of_client, None).await;
    for _ in 0..ROUNDS {
        phases[0].push(phase(&server, rows_of_client, None).await);
        phases[1].push(phase(&server, rows_of_client, Some(&plan)).await);
        phases[2].push(phase(&server, rows_of_client, None).await);
    }
    write!(
        results,
        "\n## The server's cache\n\n\
         A client reads rows at random, which with their index fill 80 % of shared_buffers (128 MB), \
         for {} s each before, while and after a table of {} MB is walked through by pages; the first \
         walk of a start may read more at once than later ones. Median of {ROUNDS} alternating runs. p99 is \
         to stay below {MOST_LATENCY} times what it is before.\n\n\
         | | p99 of the client | pages that it had to read | its pages in the cache at the end | pages walked through |\n\
         |---|--:|--:|--:|--:|\n",
        PHASE.as_secs(),
        server.value("synapse", "SELECT pg_relation_size('devices') / 1024 / 1024").await.unwrap(),
    )
    .unwrap();
    let mut latencies = Vec::new();
    for (name, all) in ["before", "during", "after"].into_iter().zip(phases) {
        let middle = |of: fn(&Phase) -> f64| {
            let mut values: Vec<_> = all.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        latencies.push(middle(|phase| phase.p99));
        writeln!(
            results,
            "| {name} | {:.2} ms | {:.0} | {:.0} | {:.0} |",
            middle(|phase| phase.p99),
            middle(|phase| phase.read),
            middle(|phase| phase.cached),
            middle(|phase| phase.walked),
        )
        .unwrap();
        eprintln!("{}", results.lines().next_back().unwrap());
    }
    let ratio = latencies[1] / latencies[0];
    writeln!(
        results,
        "\nThe p99 was {ratio:.2} times what it was before."
    )
    .unwrap();
    match ratio > MOST_LATENCY {
        true => vec![format!(
            "the p99 of a client beside a walk was {ratio:.2} times its own"
        )],
        false => Vec::new(),
    }
}

/// A while in the life of a client.
struct Phase {
    /// Milliseconds.
    p99: f64,
    read: f64,
    cached: f64,
    walked: f64,
}

async fn phase(server: &Postgres, rows_of_client: u64, walked: Option<&Plan>) -> Phase {
    let numbers = async || {
        let sql = "SELECT pg_stat_get_blocks_fetched(c.oid) - pg_stat_get_blocks_hit(c.oid)
                        + pg_stat_get_blocks_fetched('client_pkey'::regclass)
                        - pg_stat_get_blocks_hit('client_pkey'::regclass),
                        pg_stat_get_blocks_fetched('devices'::regclass),
                        (SELECT count(*) FROM pg_buffercache AS b
                          WHERE b.relfilenode IN (pg_relation_filenode('client'),
                                                  pg_relation_filenode('client_pkey')))
                   FROM pg_class AS c WHERE c.oid = 'client'::regclass";
        let row = server.sql("synapse", sql).await.remove(0);
        [0, 1, 2].map(|at| row[at].as_ref().unwrap().parse::<f64>().unwrap())
    };
    let before = numbers().await;
    let client = server.client("synapse", "postgres").await;
    let read = async {
        let select = client.prepare("SELECT length(filler) FROM client WHERE n = $1");
        let select = select.await.unwrap();
        let mut times = Vec::new();
        let (started, mut dice) = (Instant::now(), 1_u64);
        while started.elapsed() < PHASE {
            dice = dice
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let n = (1 + (dice >> 33) % rows_of_client) as i64;
            let asked = Instant::now();
            client.query_one(&select, &[&n]).await.unwrap();
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    };
    let walk = async {
        let Some(plan) = walked else { return };
        let exporter = server.client("synapse", "exporter").await;
        let (mut holds, share) = (Holds::default(), CacheShare::default());
        walk_for(&exporter, plan, PHASE, 100.0, &mut holds, &share).await;
    };
    let (p99, ()) = tokio::join!(read, walk);
    drop(client);
    wait_at_most(PATIENCE, "the sessions have ended", || async {
        let sessions = "SELECT count(*) FROM pg_stat_activity
                         WHERE datname = 'synapse' AND pid <> pg_backend_pid()
                           AND backend_type = 'client backend'";
        server.value("synapse", sessions).await.as_deref() == Some("0")
    })
    .await;
    let after = numbers().await;
    Phase {
        p99,
        read: after[0] - before[0],
        walked: after[1] - before[1],
        cached: after[2],
    }
}
