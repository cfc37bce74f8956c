-- The record: plans with their history, the log of events, and who has yet to handle what.
-- Times are milliseconds since 1970 UTC. A plan's rows carry its incarnation, which a cleanup raises:
-- what is left of an earlier one is invisible at once and swept in bounded steps.

CREATE TABLE plans (
    id INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    plan_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    live INTEGER NOT NULL,
    keys INTEGER NOT NULL,
    size INTEGER NOT NULL,
    actions INTEGER NOT NULL,
    horizon INTEGER NOT NULL,
    history_size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    UNIQUE (tenant_id, user_id, plan_id)
) STRICT;
CREATE INDEX plans_live ON plans (tenant_id, user_id, plan_id) WHERE live;
CREATE INDEX plans_expiring ON plans (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE entries (
    plan INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    key TEXT NOT NULL,
    revision INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    value TEXT NOT NULL,
    PRIMARY KEY (plan, incarnation, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX entries_expiring ON entries (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE history (
    plan INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    op TEXT NOT NULL,
    key TEXT,
    at INTEGER NOT NULL,
    action INTEGER,
    actor TEXT,
    instance TEXT,
    event_id TEXT,
    correlation_id TEXT,
    trace_id TEXT,
    argument TEXT,
    PRIMARY KEY (plan, incarnation, revision, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX history_actions ON history (plan, incarnation, action) WHERE action IS NOT NULL;

-- Values at the plan's horizon, on which what is left of the history builds.
CREATE TABLE bases (
    plan INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (plan, incarnation, key)
) STRICT, WITHOUT ROWID;

-- Bounded work left for the background: an incarnation to sweep, or a history to trim.
CREATE TABLE chores (
    kind TEXT NOT NULL,
    plan INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    PRIMARY KEY (kind, plan, incarnation)
) STRICT, WITHOUT ROWID;

CREATE TABLE answers (
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    key TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (tenant_id, user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_expiring ON answers (expires_at);

CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    plan_id TEXT,
    lane TEXT,
    topic TEXT NOT NULL,
    type TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    envelope TEXT NOT NULL,
    UNIQUE (tenant_id, event_id)
) STRICT;
CREATE INDEX events_untaken ON events (at) WHERE NOT taken;
CREATE INDEX events_by_correlation ON events (correlation_id, position);

-- The highest position that was removed from the log; readers from before it are told.
CREATE TABLE log_horizon (position INTEGER NOT NULL) STRICT;
INSERT INTO log_horizon VALUES (0);

-- Ids of groups and subscriptions are never used again: what is left of one must not become another's.
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id TEXT NOT NULL, -- '' serves all tenants
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    type TEXT NOT NULL,
    topic TEXT NOT NULL,
    ordered INTEGER NOT NULL,
    retry TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    UNIQUE (group_id, type, topic)
) STRICT;
CREATE INDEX subscriptions_by_type ON subscriptions (type, topic);

CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    instance TEXT NOT NULL,
    max_concurrency INTEGER NOT NULL,
    connected_at INTEGER NOT NULL,
    heard_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- ready_at: when the delivery may be claimed next. NULL while another of its lane leads, or it is parked;
-- the end of its lease while an agent has it.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    group_id INTEGER NOT NULL,
    subscription_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    lane TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    ready_at INTEGER,
    fence TEXT,
    replica TEXT,
    begun INTEGER NOT NULL DEFAULT 0, -- whether the agent has named it as running
    reason TEXT,
    UNIQUE (position, group_id)
) STRICT;
CREATE INDEX deliveries_ready ON deliveries (subscription_id, ready_at, id) WHERE ready_at IS NOT NULL;
CREATE INDEX deliveries_in_line ON deliveries (group_id, lane, position) WHERE lane IS NOT NULL;
CREATE INDEX deliveries_in_hand ON deliveries (replica) WHERE replica IS NOT NULL;
CREATE UNIQUE INDEX deliveries_fence ON deliveries (fence) WHERE fence IS NOT NULL;

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL,
    subscription_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    lane TEXT,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    at INTEGER NOT NULL,
    parked INTEGER NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_event ON dead_letters (position);
