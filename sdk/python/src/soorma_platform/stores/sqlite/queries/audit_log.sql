-- name: insert_audit_row
INSERT INTO audit (at, tenant_id, user_id, action, by_id, by_name, subject, detail)
VALUES (:at, :tenant_id, :user_id, :action, :by_id, :by_name, :subject, :detail);

-- name: audit_log
SELECT id, at, tenant_id, user_id, action, by_id, by_name, subject, detail
FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?;

-- name: audit_log_of_action
SELECT id, at, tenant_id, user_id, action, by_id, by_name, subject, detail
FROM audit WHERE action = ? AND id < ? ORDER BY id DESC LIMIT ?;

-- name: audit_log_of_tenant
SELECT id, at, tenant_id, user_id, action, by_id, by_name, subject, detail
FROM audit WHERE tenant_id = ? AND id < ? ORDER BY id DESC LIMIT ?;

-- name: audit_log_of_tenant_and_action
SELECT id, at, tenant_id, user_id, action, by_id, by_name, subject, detail
FROM audit WHERE tenant_id = ? AND action = ? AND id < ? ORDER BY id DESC LIMIT ?;

-- name: remove_old_audit_rows
DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?);
