-- name: make_usage
CREATE TEMP TABLE IF NOT EXISTS usage (tenant_id TEXT PRIMARY KEY, plans INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;

-- name: count_usage_of_plans
INSERT INTO temp.usage
SELECT tenant_id, sum(live), sum(size + history_size) FROM plans GROUP BY tenant_id;

-- name: count_usage_of_passages
INSERT INTO temp.usage
SELECT c.tenant_id, 0, sum(octet_length(p.content)) FROM passages p JOIN collections c ON c.id = p.collection
GROUP BY c.tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET bytes = bytes + excluded.bytes;

-- name: count_usage_of_files
INSERT INTO temp.usage
SELECT c.tenant_id, 0, sum(octet_length(f.content)) FROM procedure_files f
JOIN passages p ON p.number = f.passage JOIN collections c ON c.id = p.collection
GROUP BY c.tenant_id
ON CONFLICT (tenant_id) DO UPDATE SET bytes = bytes + excluded.bytes;

-- name: on_plan_added
CREATE TEMP TRIGGER on_plan_added AFTER INSERT ON main.plans BEGIN
    INSERT INTO usage VALUES (new.tenant_id, new.live, new.size + new.history_size)
    ON CONFLICT (tenant_id) DO UPDATE SET plans = plans + excluded.plans, bytes = bytes + excluded.bytes;
END;

-- name: on_plan_changed
CREATE TEMP TRIGGER on_plan_changed AFTER UPDATE OF live, size, history_size ON main.plans BEGIN
    INSERT INTO usage VALUES (
        new.tenant_id, new.live - old.live, new.size + new.history_size - old.size - old.history_size)
    ON CONFLICT (tenant_id) DO UPDATE SET plans = plans + excluded.plans, bytes = bytes + excluded.bytes;
END;

-- name: on_plan_removed
CREATE TEMP TRIGGER on_plan_removed AFTER DELETE ON main.plans BEGIN
    INSERT INTO usage VALUES (old.tenant_id, -old.live, -old.size - old.history_size)
    ON CONFLICT (tenant_id) DO UPDATE SET plans = plans + excluded.plans, bytes = bytes + excluded.bytes;
END;

-- name: on_passage_added
CREATE TEMP TRIGGER on_passage_added AFTER INSERT ON main.passages BEGIN
    INSERT INTO usage SELECT tenant_id, 0, octet_length(new.content) FROM collections WHERE id = new.collection
    ON CONFLICT (tenant_id) DO UPDATE SET bytes = bytes + excluded.bytes;
END;

-- name: on_passage_removed
-- With its files, if they are still there: they may be removed before it or after.
CREATE TEMP TRIGGER on_passage_removed AFTER DELETE ON main.passages BEGIN
    UPDATE usage SET bytes = bytes - octet_length(old.content) - coalesce(
        (SELECT sum(octet_length(content)) FROM procedure_files WHERE passage = old.number), 0)
    WHERE tenant_id = (SELECT tenant_id FROM collections WHERE id = old.collection);
END;

-- name: on_file_added
CREATE TEMP TRIGGER on_file_added AFTER INSERT ON main.procedure_files BEGIN
    UPDATE usage SET bytes = bytes + octet_length(new.content) WHERE tenant_id = (
        SELECT c.tenant_id FROM passages p JOIN collections c ON c.id = p.collection WHERE p.number = new.passage);
END;

-- name: on_file_removed
CREATE TEMP TRIGGER on_file_removed AFTER DELETE ON main.procedure_files BEGIN
    UPDATE usage SET bytes = bytes - octet_length(old.content) WHERE tenant_id = (
        SELECT c.tenant_id FROM passages p JOIN collections c ON c.id = p.collection WHERE p.number = old.passage);
END;

-- name: plans_used
SELECT plans FROM temp.usage WHERE tenant_id = ?;

-- name: bytes_used
SELECT bytes FROM temp.usage WHERE tenant_id = ?;
