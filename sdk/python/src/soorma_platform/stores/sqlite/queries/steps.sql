-- name: steps
SELECT name, occurrence, result FROM steps WHERE group_id = ? AND position = ?;

-- name: step
SELECT result FROM steps WHERE group_id = ? AND position = ? AND name = ? AND occurrence = ?;

-- name: steps_so_far
SELECT count(*) AS count, coalesce(sum(octet_length(result)), 0) AS size FROM steps WHERE group_id = ? AND position = ?;

-- name: insert_step
INSERT INTO steps (group_id, position, name, occurrence, at, result)
VALUES (:group_id, :position, :name, :occurrence, :at, :result);

-- name: remove_steps
DELETE FROM steps WHERE position = ?;
