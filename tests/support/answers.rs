//! What the exporter says, beside what the server itself says.

use tokio_postgres::Client;

use super::exporter::Exporter;
use super::exposition::Page;
use super::postgres::{Postgres, rows};

/// A metric, its labels, and the question to the server that has the same answer.
pub type Question<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Panics unless each value lies between the answers of right before and right after the scrape,
/// or both say that there is none. Returns the page.
pub async fn assert_agree(
    server: &Postgres,
    db: &str,
    exporter: &Exporter,
    questions: &[Question<'_>],
) -> Page {
    let client = server.client(db, "postgres").await;
    let before = answers(&client, questions).await;
    let page = exporter.scrape().await;
    let after = answers(&client, questions).await;
    for (((metric, labels, sql), before), after) in questions.iter().zip(before).zip(after) {
        let value = page.value(metric, labels);
        let agrees = match (value, before, after) {
            (Some(value), Some(before), Some(after)) => {
                let rounding = 1e-6 * before.abs().max(after.abs());
                let (least, most) = (before.min(after), before.max(after));
                (least - rounding..=most + rounding).contains(&value)
            }
            (None, None, None) => true,
            _ => false,
        };
        assert!(
            agrees,
            "PostgreSQL {}: {metric}{labels:?} is {value:?}, the server says {before:?} to {after:?}: {sql}",
            server.major()
        );
    }
    page
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
