-- Procedures: skills, prompts and rules of a user, or of a tenant, in versions. The text of a version is
-- a passage of a collection of kind 2, which is open while the version is the active one.
CREATE TABLE procedures (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    collection INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    newest INTEGER NOT NULL,
    activated TEXT NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX procedures_by_name ON procedures (collection, kind, name);

CREATE TABLE procedure_versions (
    passage INTEGER PRIMARY KEY,
    procedure INTEGER NOT NULL,
    version INTEGER NOT NULL,
    head INTEGER NOT NULL,
    description TEXT,
    agents TEXT NOT NULL,
    conditions TEXT,
    sizes TEXT NOT NULL,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX procedure_versions_of ON procedure_versions (procedure, version);

CREATE TABLE procedure_files (
    passage INTEGER NOT NULL,
    path TEXT NOT NULL,
    content BLOB NOT NULL
);
CREATE UNIQUE INDEX procedure_files_of ON procedure_files (passage, path);

-- Versions that a plan has used, until it ends.
CREATE TABLE procedure_uses (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    plan_id TEXT NOT NULL,
    passage INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id, plan_id, passage)
) WITHOUT ROWID;
CREATE INDEX procedure_uses_of ON procedure_uses (passage);
