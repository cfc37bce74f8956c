-- name: block
SELECT id, issuer, tenant_id, subject, jti, created_at, created_by, expires_at, lifted_at, change
FROM token_blocks WHERE id = ?;

-- name: count_blocks
SELECT count(*) FROM token_blocks WHERE tenant_id = ? AND lifted_at IS NULL;

-- name: blocks_of
SELECT id, issuer, tenant_id, subject, jti, created_at, created_by, expires_at, lifted_at, change
FROM token_blocks WHERE tenant_id = ? AND change > ? ORDER BY change LIMIT ?;

-- name: blocks_changed
SELECT id, issuer, tenant_id, subject, jti, created_at, created_by, expires_at, lifted_at, change
FROM token_blocks WHERE change > ? ORDER BY change LIMIT ?;

-- name: subject_blocked
SELECT EXISTS (
    SELECT 1 FROM token_blocks
    WHERE subject = ?1 AND issuer = ?2 AND tenant_id IN ('', ?3)
        AND lifted_at IS NULL AND (expires_at IS NULL OR expires_at > ?4)
);

-- name: jti_blocked
SELECT EXISTS (
    SELECT 1 FROM token_blocks
    WHERE jti = ?1 AND issuer = ?2 AND tenant_id IN ('', ?3)
        AND lifted_at IS NULL AND (expires_at IS NULL OR expires_at > ?4)
);

-- name: last_block_change
SELECT coalesce(max(change), 0) FROM token_blocks;

-- name: put_block
INSERT INTO token_blocks (id, issuer, tenant_id, subject, jti, created_at, created_by, expires_at,
    lifted_at, change)
VALUES (:id, :issuer, :tenant_id, :subject, :jti, :created_at, :created_by, :expires_at, :lifted_at,
    :change)
ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at, created_by = excluded.created_by,
    expires_at = excluded.expires_at, lifted_at = excluded.lifted_at, change = excluded.change;

-- name: remove_old_blocks
-- The last change stays, as the next one counts from it.
DELETE FROM token_blocks
WHERE (lifted_at < ?1 OR expires_at < ?1) AND change < (SELECT max(change) FROM token_blocks);
