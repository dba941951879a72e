-- Synapse's role and database, with the collation that Synapse asks for. The image runs this once,
-- in psql, on an empty volume.
\set ON_ERROR_STOP on
\set password `cat /run/secrets/synapse_password`
CREATE ROLE synapse_user LOGIN PASSWORD :'password';
CREATE DATABASE synapse OWNER synapse_user TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C';
