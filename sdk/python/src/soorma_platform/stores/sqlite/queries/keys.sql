-- name: key
SELECT id, family, name, tenant_id, user_id, role, grants, digest, created_at, created_by, expires_at,
    revoked_at, used_at, change
FROM api_keys WHERE id = ?;

-- name: key_validity
SELECT expires_at, revoked_at FROM api_keys WHERE id = ?;

-- name: count_keys
SELECT count(*) FROM api_keys WHERE tenant_id = ? AND revoked_at IS NULL;

-- name: keys_of
SELECT id, family, name, tenant_id, user_id, role, grants, digest, created_at, created_by, expires_at,
    revoked_at, used_at, change
FROM api_keys WHERE tenant_id = ? AND change > ? ORDER BY change LIMIT ?;

-- name: keys_changed
SELECT id, family, name, tenant_id, user_id, role, grants, digest, created_at, created_by, expires_at,
    revoked_at, used_at, change
FROM api_keys WHERE change > ? ORDER BY change LIMIT ?;

-- name: last_key_change
SELECT coalesce(max(change), 0) FROM api_keys;

-- name: put_key
INSERT INTO api_keys (id, family, name, tenant_id, user_id, role, grants, digest, created_at,
    created_by, expires_at, revoked_at, used_at, change)
VALUES (:id, :family, :name, :tenant_id, :user_id, :role, :grants, :digest, :created_at, :created_by,
    :expires_at, :revoked_at, :used_at, :change)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, revoked_at = excluded.revoked_at,
    change = excluded.change;

-- name: note_key_use
UPDATE api_keys SET used_at = ?2 WHERE id = ?1 AND (used_at IS NULL OR used_at < ?2);

-- name: remove_old_keys
-- The last change stays, as the next one counts from it.
DELETE FROM api_keys
WHERE (revoked_at < ?1 OR expires_at < ?1) AND change < (SELECT max(change) FROM api_keys);
