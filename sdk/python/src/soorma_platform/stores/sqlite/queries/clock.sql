-- name: clock
SELECT uptime, steady, wall, unsettled, is_closed, boot, since_boot FROM clock;

-- name: keep_clock
INSERT INTO clock (id, uptime, steady, wall, unsettled, is_closed, boot, since_boot)
VALUES (1, :uptime, :steady, :wall, :unsettled, :is_closed, :boot, :since_boot)
ON CONFLICT DO UPDATE SET uptime = excluded.uptime, steady = excluded.steady, wall = excluded.wall,
    unsettled = excluded.unsettled, is_closed = excluded.is_closed, boot = excluded.boot, since_boot = excluded.since_boot;
