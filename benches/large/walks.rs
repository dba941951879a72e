//! What it costs to count a table in pieces, beside the plain statement.

use super::*;

/// From how many milliseconds of the plain statement on a table is to keep to bounds.
const SLOW: f64 = 50.0;

/// How much more time of the database than the plain statement it may cost to count a table.
const MOST_TIME: f64 = 1.5;

/// How often a page may be read.
const MOST_PAGES: f64 = 1.05;

/// What it costs to count a table, and as one plain statement; what is beyond its bound.
pub async fn walks(
    server: &Postgres,
    chosen: impl Fn(&str) -> bool,
    results: &mut String,
) -> Vec<String> {
    write!(
        results,
        "\n## A table\n\n\
         What is counted in pieces, for each table: by ranges of pages, or in the order of a key. Beside \
         it the same as one plain statement over the whole table. Median of {ROUNDS} alternating runs; \
         each begins as after a start, so it knows nothing of the table. Pages are those of the table \
         itself, read or found in the cache, in parts of all that it has; in the order of a key a page is \
         found as often as its rows lie apart, and so it is where a row is compared with others of its \
         table. Where the plain statement takes more than {SLOW:.0} ms, the \
         ratio is to stay below {MOST_TIME}, and pages below {MOST_PAGES} where each row is read once, by pages.\n\n\
         | table | for | by | statements | longest | in all | plain | ratio | pages |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|\n"
    )
    .unwrap();
    let there = whole::columns(server).await;
    let mut broken = Vec::new();
    for collector in collectors::synapse::all() {
        for mut query in collector.queries.clone() {
            let Some(sql) = whole::plain(&query, MAJOR, &there) else {
                continue;
            };
            let walk = query.walk.clone().unwrap();
            let table = walk.table();
            if !chosen(table) {
                continue;
            }
            // As if it had been asked after the others.
            query.covered = None;
            let plan = Plan::new(Collector {
                queries: vec![query],
                ..collector.clone()
            });
            let (mut ours, mut plain) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                plain.push(plain_statement(server, &sql).await);
                ours.push(walk_through(server, &plan, table).await);
            }
            let ours = median(ours, |(cost, _)| cost.total);
            let plain = median(plain, |cost| cost.total);
            let ((ours, pages), ratio) = (&ours, ours.0.total / plain.total);
            let by = match &walk {
                Walk::Pages { .. } => "pages",
                Walk::Keys(key) => key.columns,
            };
            writeln!(
                results,
                "| {table} | {} | {by} | {} | {:.1} ms | {:.0} ms | {:.0} ms | {ratio:.2} | {pages:.2} |",
                collector.name, ours.statements, ours.longest, ours.total, plain.total
            )
            .unwrap();
            let row = results.lines().next_back().unwrap();
            eprintln!("{row}");
            let of_a_name = |c: char| c.is_alphanumeric() || c == '_';
            let names = sql.as_str().split(|c: char| !of_a_name(c));
            let looks_up = names.filter(|name| *name == table).count() > 1;
            let in_pages = matches!(walk, Walk::Pages { .. }) && !looks_up;
            let beyond = ratio > MOST_TIME || in_pages && *pages > MOST_PAGES;
            if plain.total > SLOW && beyond || ours.longest > CAP {
                broken.push(row.to_owned());
            }
        }
    }
    broken
}

/// One walk without a pause, and what of the table it read.
async fn walk_through(server: &Postgres, plan: &Plan, table: &str) -> (Cost, f64) {
    let exporter = server.client("synapse", "exporter").await;
    reset(server).await;
    let fetched = format!(
        "SELECT pg_stat_get_blocks_fetched('{table}'::regclass) AS fetched,
                greatest(pg_relation_size('{table}'::regclass) / 8192, 1) AS pages"
    );
    let fetched = async || {
        let row = server.sql("synapse", &fetched).await.remove(0);
        [0, 1].map(|at| row[at].as_ref().unwrap().parse::<f64>().unwrap())
    };
    let [before, pages] = fetched().await;
    walk_for(
        &exporter,
        plan,
        Duration::from_secs(600),
        CAP,
        &mut Holds::default(),
        &CacheShare::default(),
    )
    .await;
    // What a session did is told when it ends.
    drop(exporter);
    wait_at_most(PATIENCE, "the session has ended", || async {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'exporter'";
        server.value("synapse", sessions).await.as_deref() == Some("0")
    })
    .await;
    let [after, _] = fetched().await;
    let cost = Cost::of(server, "exporter", r#"%"public".%"#).await;
    (cost, (after - before) / pages)
}

/// Walks for so long at most.
pub async fn walk_for(
    exporter: &Client,
    plan: &Plan,
    time: Duration,
    cap: f64,
    holds: &mut Holds,
    cache: &CacheShare,
) -> Harvest {
    let version = Version(MAJOR * 10_000);
    let found = Search::new(&Registry::built_in())
        .run(exporter, version, Duration::from_secs(8))
        .await;
    let tables = found.unwrap().remove(0).tables;
    let now = Instant::now();
    let context = Context {
        system: "",
        version,
        standby: false,
        archiver: false,
        settings_off: &BTreeSet::new(),
        database: Some("synapse".into()),
        tables: Some(&tables),
        views: &Views::default(),
        deadline: now + 2 * time,
        pause: now + time,
        keep: Duration::ZERO,
        statement_cap: Duration::from_secs_f64(cap / 1e3),
        limit: 10_000,
        cache,
    };
    plan.run(exporter, &context, holds, None).await
}

/// The same counts as one statement.
async fn plain_statement(server: &Postgres, sql: &Sql) -> Cost {
    let client = server.client("synapse", "postgres").await;
    reset(server).await;
    let message = Message {
        sql,
        timeout: TIMEOUTS[TIMEOUTS.len() - 1],
        version: Version(MAJOR * 10_000),
        scope: Scope::Database,
    };
    message.send(&client, |_, _| Ok(())).await.unwrap();
    Cost::of(server, "postgres", r#"%"public".%"#).await
}

pub fn median<T>(mut all: Vec<T>, by: impl Fn(&T) -> f64) -> T {
    all.sort_by(|a, b| by(a).total_cmp(&by(b)));
    let middle = all.len() / 2;
    all.swap_remove(middle)
}
