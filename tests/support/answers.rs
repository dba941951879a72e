//! What the exporter says, beside what the server itself says; and waiting until it does.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio_postgres::Client;

use super::exporter::Exporter;
use super::exposition::Page;
use super::postgres::{Postgres, rows};
use super::process::{PATIENCE, pause, wait_for};
use super::roles::Role;

/// A metric, its labels, and the question to the server that has the same answer.
pub type Question<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Creates the two kinds of roles that `grants` makes.
pub async fn create_roles(server: &Postgres, databases: &[&str]) {
    Role::PgMonitor.create(server, "monitor", databases).await;
    Role::Strict.create(server, "strict", databases).await;
}

/// An exporter with each of these roles.
pub async fn watch(server: &Postgres, db: &str) -> [Exporter; 2] {
    let monitor = Exporter::watch(&server.tcp_dsn(db, "monitor"), &[]).await;
    let strict = Exporter::watch(&server.tcp_dsn(db, "strict"), &[]).await;
    [monitor, strict]
}

/// Panics unless each value lies between the answers of right before and right after the scrape, or both
/// say that there is none. What the server is never seen to answer otherwise has to agree in one of three
/// scrapes, since a session may come and go within one; what moves is asked again until it does. Returns the
/// page of the last exporter.
pub async fn assert_agree(
    server: &Postgres,
    db: &str,
    exporters: &[Exporter; 2],
    questions: &[Question<'_>],
) -> Page {
    let client = server.client(db, "postgres").await;
    let mut page = Page::default();
    // Every answer to each question.
    let mut heard = vec![BTreeSet::new(); questions.len()];
    for exporter in exporters {
        let start = Instant::now();
        for round in 1.. {
            let (before, after) = scrape_between(&client, exporter, questions, &mut page).await;
            for answers in [&before, &after] {
                for (heard, answer) in heard.iter_mut().zip(answers) {
                    heard.insert(answer.map(f64::to_bits));
                }
            }
            let wrong = disagreements(&page, questions, &before, &after);
            if wrong.is_empty() {
                break;
            }
            let stands_still = round >= 3 && wrong.iter().any(|(at, _)| heard[*at].len() == 1);
            assert!(
                !stands_still && start.elapsed() < PATIENCE,
                "PostgreSQL {}: {wrong:#?}\n{:?}",
                server.major(),
                page.skipped()
            );
            pause(start).await;
        }
    }
    page
}

/// A page on which nothing failed, and the server's answers of before and after.
async fn scrape_between(
    client: &Client,
    exporter: &Exporter,
    questions: &[Question<'_>],
    page: &mut Page,
) -> (Vec<Option<f64>>, Vec<Option<f64>>) {
    let start = Instant::now();
    loop {
        let before = answers(client, questions).await;
        *page = exporter.scrape().await;
        let after = answers(client, questions).await;
        // On a busy machine a collector may be late; the page says so.
        if page.failed().is_empty() {
            return (before, after);
        }
        assert!(start.elapsed() < PATIENCE, "{:?}", page.skipped());
    }
}

/// The questions by their place, and what is wrong.
fn disagreements(
    page: &Page,
    questions: &[Question<'_>],
    before: &[Option<f64>],
    after: &[Option<f64>],
) -> Vec<(usize, String)> {
    let mut wrong = Vec::new();
    let answers = before.iter().zip(after);
    for (at, ((metric, labels, sql), (before, after))) in questions.iter().zip(answers).enumerate()
    {
        let value = page.value(metric, labels);
        if !agrees(value, *before, *after) {
            let said = format!(
                "{metric}{labels:?} is {value:?}, the server says {before:?} to {after:?}: {sql}"
            );
            wrong.push((at, said));
        }
    }
    wrong
}

fn agrees(value: Option<f64>, before: Option<f64>, after: Option<f64>) -> bool {
    match (value, before, after) {
        (Some(value), Some(before), Some(after)) => {
            let rounding = 1e-6 * before.abs().max(after.abs());
            let (least, most) = (before.min(after), before.max(after));
            (least - rounding..=most + rounding).contains(&value)
        }
        (None, None, None) => true,
        _ => false,
    }
}

/// Waits until a question to the server has the answer true.
pub async fn wait_until(server: &Postgres, db: &str, question: &str) {
    wait_for(question, || async {
        server.value(db, question).await.as_deref() == Some("t")
    })
    .await;
}

async fn answers(client: &Client, questions: &[Question<'_>]) -> Vec<Option<f64>> {
    let mut answers = Vec::new();
    for (_, _, sql) in questions {
        let rows = rows(client, sql).await;
        answers.push(rows[0][0].as_deref().map(number));
    }
    answers
}

fn number(text: &str) -> f64 {
    match text {
        "t" => 1.0,
        "f" => 0.0,
        text => text.parse().unwrap(),
    }
}
