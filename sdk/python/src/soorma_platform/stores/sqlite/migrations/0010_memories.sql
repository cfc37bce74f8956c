-- Memories. What one user knows is a collection of kind 0, what was said to and by him one of kind 1.
-- What is public in a tenant is a collection, too: its user_id is NULL. `change` counts the changes of
-- a collection, so that an index of it can follow.
CREATE TABLE collections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL,
    user_id TEXT,
    kind INTEGER NOT NULL,
    change INTEGER NOT NULL DEFAULT 0,
    parts INTEGER NOT NULL DEFAULT 0,
    model INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX collections_of ON collections (tenant_id, user_id, kind);

-- AUTOINCREMENT: an index in memory may still know the number of a passage that is gone.
CREATE TABLE passages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    recorded_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    external_id TEXT,
    subject TEXT,
    attribute TEXT,
    aliases TEXT NOT NULL,
    tags TEXT NOT NULL,
    metadata TEXT,
    source TEXT,
    is_public INTEGER NOT NULL,
    is_proposed INTEGER NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    closed_at INTEGER NOT NULL,
    closed_by TEXT,
    derived_from TEXT NOT NULL,
    trust TEXT NOT NULL,
    user_id TEXT NOT NULL,
    stated INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    plan_id TEXT,
    cause TEXT NOT NULL,
    content TEXT NOT NULL
);
CREATE UNIQUE INDEX passages_by_id ON passages (collection, id);
CREATE INDEX passages_by_digest ON passages (collection, digest);
CREATE INDEX passages_by_external_id ON passages (collection, external_id)
WHERE external_id IS NOT NULL;
CREATE INDEX passages_by_subject ON passages (collection, subject, attribute)
WHERE subject IS NOT NULL;
CREATE INDEX passages_of ON passages (collection);
CREATE INDEX passages_open ON passages (collection) WHERE closed_at = 4611686018427387904;
CREATE INDEX passages_replaced ON passages (collection, closed_by) WHERE closed_by IS NOT NULL;

-- What an index reads of them, in the order of changes. Without terms: the passage is gone.
CREATE TABLE passage_parts (
    collection INTEGER NOT NULL,
    change INTEGER NOT NULL,
    passage INTEGER NOT NULL,
    part INTEGER NOT NULL,
    starts INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    length INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    closed_at INTEGER NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    terms BLOB,
    model INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX passage_parts_by_change ON passage_parts (collection, change);
CREATE INDEX passage_parts_of ON passage_parts (passage, part);
-- What a model has not embedded yet: parts of earlier models, or of none (0).
CREATE INDEX passage_parts_by_model ON passage_parts (model) WHERE terms IS NOT NULL;
CREATE INDEX passage_parts_of_model ON passage_parts (collection, model) WHERE terms IS NOT NULL;

-- Models that have embedded something, each with what identifies it; a later one has a higher id.
CREATE TABLE embedding_models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE part_vectors (
    collection INTEGER NOT NULL,
    change INTEGER NOT NULL,
    passage INTEGER NOT NULL,
    part INTEGER NOT NULL,
    model INTEGER NOT NULL,
    vector BLOB NOT NULL
);
CREATE UNIQUE INDEX part_vectors_of ON part_vectors (passage, part, model);
CREATE INDEX part_vectors_by_model ON part_vectors (model);
CREATE UNIQUE INDEX part_vectors_by_change ON part_vectors (collection, model, change);

-- Further statements of a passage, each under the id that it was given.
CREATE TABLE restatements (
    collection INTEGER NOT NULL,
    id TEXT NOT NULL,
    passage INTEGER NOT NULL,
    plan_id TEXT,
    cause TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (collection, id)
) WITHOUT ROWID;
CREATE INDEX restatements_of ON restatements (passage);

-- Removals whose bytes are still in the write-ahead log, until that is emptied.
CREATE TABLE erasures (
    id INTEGER PRIMARY KEY AUTOINCREMENT
);

-- Sessions of a user, and the interactions in them. The content of an interaction is a passage.
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL,
    session_id TEXT NOT NULL,
    name TEXT,
    interactions INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE INDEX sessions_of ON sessions (collection);
CREATE UNIQUE INDEX sessions_by_id ON sessions (collection, session_id);

CREATE TABLE interactions (
    passage INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    session INTEGER,
    agent_id TEXT,
    role TEXT NOT NULL
);
CREATE INDEX interactions_of ON interactions (collection, passage);
CREATE INDEX interactions_of_session ON interactions (session, passage) WHERE session IS NOT NULL;
CREATE INDEX interactions_of_agent ON interactions (collection, agent_id, passage)
WHERE agent_id IS NOT NULL;

-- Which passages were derived from which.
CREATE TABLE passage_sources (
    collection INTEGER NOT NULL,
    source TEXT NOT NULL,
    passage INTEGER NOT NULL,
    PRIMARY KEY (collection, source, passage)
) WITHOUT ROWID;
CREATE INDEX passage_sources_of ON passage_sources (passage);
