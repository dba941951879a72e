//! How a role that may create becomes another one.

use tokio_postgres::Client;

use super::postgres::{Postgres, rows};

/// A function that Synapse finds before the one that it means: a string that is still of no type is
/// rather a text than the name of a sequence.
pub const PLANT: &str =
    "CREATE FUNCTION public.nextval(text) RETURNS bigint LANGUAGE plpgsql AS $$BEGIN
        GRANT SELECT ON public.event_json TO exporter;
        RETURN pg_catalog.nextval($1::pg_catalog.regclass);
    END$$";

/// Whether the role `exporter` can read messages after that role of Synapse's has taken a number.
/// What was made is taken away again.
pub async fn takes_over(server: &Postgres, database: &str, role: &str) -> bool {
    let exporter = server.client(database, "exporter").await;
    let read = "SELECT json FROM public.event_json";
    assert_eq!(refusal(&exporter, read).await, "42501");
    if exporter.batch_execute(PLANT).await.is_err() {
        assert_eq!(refusal(&exporter, PLANT).await, "42501");
    }
    // The statement of synapse/storage/util/sequence.py.
    let next = "SELECT nextval('events_stream_seq')";
    rows(&server.client(database, role).await, next).await;
    let taken = exporter.simple_query(read).await.is_ok();
    let undo = "DROP FUNCTION IF EXISTS public.nextval(text);
                REVOKE ALL ON public.event_json FROM exporter";
    server.sql(database, undo).await;
    taken
}

/// The code with which the server refuses a statement.
pub async fn refusal(client: &Client, sql: &str) -> String {
    let error = client.simple_query(sql).await.expect_err(sql);
    let code = error.code().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    code.code().to_owned()
}
