-- Version 1. `@` stands for the schema. A published version never changes.

CREATE SEQUENCE @.task_ord;

CREATE TABLE @.version (
    version    integer PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- What a task was submitted with: written once, never updated.
CREATE TABLE @.task (
    ord   bigint PRIMARY KEY,
    id    text COLLATE "C" NOT NULL UNIQUE,
    usr   text COLLATE "C" NOT NULL,
    idem  text COLLATE "C",
    hash  text NOT NULL,
    repo  text COLLATE "C",
    fixed text NOT NULL
) WITH (toast_tuple_target = 8160);
CREATE UNIQUE INDEX task_key ON @.task (usr, idem) WHERE idem IS NOT NULL;
CREATE INDEX task_user ON @.task (usr, id);
CREATE INDEX task_repo ON @.task (repo, id) WHERE repo IS NOT NULL;

-- What of the record changes: written when it does. Rows are updated in place of old ones (fillfactor).
CREATE TABLE @.record (
    ord    bigint PRIMARY KEY,
    id     text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    ended  bigint,
    moving text NOT NULL
) WITH (fillfactor = 60, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX record_open ON @.record (status, id) WHERE ended IS NULL;
CREATE INDEX record_ended ON @.record (ord) WHERE ended IS NOT NULL;

-- Leases, due times, heartbeats, counters. `v` grows with every write: it tells a remembered row from a stale one.
-- `told` is a transaction number that no event of the task is ahead of.
CREATE TABLE @.state (
    ord         bigint PRIMARY KEY,
    v           bigint NOT NULL,
    told        bigint NOT NULL,
    revision    bigint NOT NULL,
    epoch       bigint NOT NULL,
    look_at     bigint,
    due         bigint,
    lease_until bigint,
    worker      text,
    denied      boolean NOT NULL,
    woken       bigint,
    heartbeat   bigint,
    events      bigint NOT NULL,
    log_len     bigint NOT NULL,
    commits     text NOT NULL,
    owed        text
) WITH (fillfactor = 60, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.02,
        autovacuum_vacuum_threshold = 1000);
CREATE INDEX state_look ON @.state (look_at, ord) WHERE look_at IS NOT NULL;

-- Wake-ups of tasks by transactions that do not hold them. Never waited for: no unique key.
CREATE TABLE @.woken (
    n   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ord bigint NOT NULL,
    at  bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX woken_task ON @.woken (ord);
CREATE INDEX woken_at ON @.woken (at, ord);

CREATE TABLE @.signal (
    ord  bigint NOT NULL,
    id   text COLLATE "C" NOT NULL,
    n    bigint NOT NULL,
    body text,
    PRIMARY KEY (ord, id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX signal_waiting ON @.signal (ord) WHERE body IS NOT NULL;

-- The holders of a scope have the places 0, 1, 2, … without gaps: two that would share a place, or one beyond the cap, are
-- refused, whatever raced.
CREATE TABLE @.slot (
    scope text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    cap   bigint NOT NULL,
    ord   bigint NOT NULL,
    taken bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (scope, place),
    UNIQUE (ord, scope),
    CHECK (place >= 0 AND place < cap)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

CREATE TABLE @.waiting (
    scope  text COLLATE "C" NOT NULL,
    ord    bigint NOT NULL,
    usr    text COLLATE "C" NOT NULL,
    denied boolean NOT NULL,
    PRIMARY KEY (scope, ord)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX waiting_denied ON @.waiting (scope, usr, ord) WHERE denied;
CREATE INDEX waiting_task ON @.waiting (ord);

CREATE TABLE @.dead (
    ord    bigint PRIMARY KEY,
    since  bigint NOT NULL,
    reason text NOT NULL
);
CREATE INDEX dead_since ON @.dead (since, ord);

-- Events and logs lie in partitions by the order of acceptance, 1 048 576 tasks each, so that the past can be dropped.
CREATE TABLE @.event (
    ord  bigint NOT NULL,
    seq  bigint NOT NULL,
    told bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ord, seq)
) PARTITION BY RANGE (ord);
CREATE INDEX event_told ON @.event (told, ord, seq);
CREATE TABLE @.log (
    ord  bigint NOT NULL,
    seq  bigint NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (ord, seq)
) PARTITION BY RANGE (ord);

-- Makes the partitions for a place in the order of acceptance and for the next ones. Runs with the rights of whoever made
-- the schema: workers need no right to make tables.
CREATE FUNCTION @.widen(a_ord bigint) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = @, pg_temp AS $$
DECLARE
    span constant bigint := 1048576;
    p bigint;
    t text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('widen', 'event'::regclass::oid::bigint));
    FOR p IN SELECT generate_series(a_ord / span, a_ord / span + 1) LOOP
        FOREACH t IN ARRAY ARRAY['event', 'log'] LOOP
            IF to_regclass(format('%I', t || '_' || p)) IS NULL THEN
                -- Attaching does not wait for those who write, as making it a partition at once would.
                EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS)', t || '_' || p, t);
                EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                    t, t || '_' || p, p * span, (p + 1) * span);
            END IF;
        END LOOP;
    END LOOP;
    RETURN (a_ord / span + 2) * span;
END $$;

-- Drops partitions of which no task is left. Answers how many.
CREATE FUNCTION @.shed() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = @, pg_temp SET lock_timeout = '1s' AS $$
DECLARE
    span constant bigint := 1048576;
    kept bigint := coalesce((SELECT min(ord) FROM task), (SELECT last_value FROM task_ord)) / span;
    r record;
    dropped bigint := 0;
BEGIN
    FOR r IN SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent IN ('event'::regclass, 'log'::regclass)
        AND split_part(c.relname, '_', 2)::bigint < kept LOOP
        EXECUTE format('DROP TABLE %I', r.name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Every transaction with a lower number that has written here, or will, has ended. Writers are known by their locks on `state`,
-- which they take before they have a number; so somebody's long transaction on other tables holds no reader up. One
-- that is just about to get its number counts as the oldest of the server.
CREATE FUNCTION @.horizon() RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    seen constant pg_snapshot := pg_current_snapshot();
    next constant bigint := pg_snapshot_xmax(seen)::text::bigint;
    unnumbered boolean;
    oldest bigint;
BEGIN
    -- The locks' numbers have 32 bits: the one meant is the nearest.
    SELECT bool_or(x.transactionid IS NULL),
        min(next + ((x.transactionid::text::bigint - next + 2147483648) & 4294967295) - 2147483648)
    INTO unnumbered, oldest
    FROM pg_locks s
    LEFT JOIN pg_locks x ON x.pid = s.pid AND x.locktype = 'transactionid' AND x.mode = 'ExclusiveLock' AND x.granted
    WHERE s.locktype = 'relation' AND s.relation = 'state'::regclass AND s.mode <> 'AccessShareLock'
    AND s.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
    IF unnumbered THEN
        RETURN pg_snapshot_xmin(seen)::text::bigint;
    END IF;
    RETURN least(next, coalesce(oldest, next));
END $$;

-- Plans are made once for each connection, perhaps while a table is still empty: functions are told what is right for a
-- full one.

-- Whole tasks as they are now. Of those whose version is known only what others may have added is answered.
CREATE FUNCTION @.rows(a_ids text[], a_known bigint[]) RETURNS TABLE (
    id text, ord bigint, v bigint, wakes text, hash text, fixed text, moving text, revision bigint, epoch bigint,
    due bigint, lease_until bigint, worker text, denied boolean, woken bigint, heartbeat bigint, events bigint,
    log_len bigint, commits text, owed text, held text, signals text, seen text, dead bigint, reason text
) LANGUAGE plpgsql STABLE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT t.id, s.ord, s.v,
        (SELECT string_agg(w.n || ' ' || w.at, ' ') FROM woken w WHERE w.ord = t.ord),
        x.*
    FROM unnest(a_ids, a_known) AS k (id, v)
    JOIN task t ON t.id = k.id
    JOIN state s ON s.ord = t.ord
    LEFT JOIN LATERAL (
        SELECT t.hash, t.fixed, r.moving, s.revision, s.epoch, s.due, s.lease_until, s.worker, s.denied, s.woken,
            s.heartbeat, s.events, s.log_len, s.commits, s.owed,
            (SELECT json_agg(l.scope ORDER BY l.taken)::text FROM slot l WHERE l.ord = s.ord),
            (SELECT string_agg(g.body, ',' ORDER BY g.n) FROM signal g WHERE g.ord = s.ord AND g.body IS NOT NULL),
            (SELECT json_agg(g.id)::text FROM signal g WHERE g.ord = s.ord),
            (SELECT d.since FROM dead d WHERE d.ord = s.ord),
            (SELECT d.reason FROM dead d WHERE d.ord = s.ord)
        FROM record r WHERE r.ord = s.ord AND s.v <> k.v
    ) x ON true;
END $$;

-- Holds tasks until the end of the transaction, then reads them: whoever held them before has ended by then.
CREATE FUNCTION @.hold(a_ids text[], a_known bigint[]) RETURNS TABLE (
    id text, ord bigint, v bigint, wakes text, hash text, fixed text, moving text, revision bigint, epoch bigint,
    due bigint, lease_until bigint, worker text, denied boolean, woken bigint, heartbeat bigint, events bigint,
    log_len bigint, commits text, owed text, held text, signals text, seen text, dead bigint, reason text
) LANGUAGE plpgsql VOLATILE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM state s WHERE s.ord IN (SELECT t.ord FROM task t WHERE t.id = ANY (a_ids))
        ORDER BY s.ord FOR NO KEY UPDATE OF s;
    RETURN QUERY
    SELECT t.id, s.ord, s.v,
        (SELECT string_agg(w.n || ' ' || w.at, ' ') FROM woken w WHERE w.ord = t.ord),
        x.*
    FROM unnest(a_ids, a_known) AS k (id, v)
    JOIN task t ON t.id = k.id
    JOIN state s ON s.ord = t.ord
    LEFT JOIN LATERAL (
        SELECT t.hash, t.fixed, r.moving, s.revision, s.epoch, s.due, s.lease_until, s.worker, s.denied, s.woken,
            s.heartbeat, s.events, s.log_len, s.commits, s.owed,
            (SELECT json_agg(l.scope ORDER BY l.taken)::text FROM slot l WHERE l.ord = s.ord),
            (SELECT string_agg(g.body, ',' ORDER BY g.n) FROM signal g WHERE g.ord = s.ord AND g.body IS NOT NULL),
            (SELECT json_agg(g.id)::text FROM signal g WHERE g.ord = s.ord),
            (SELECT d.since FROM dead d WHERE d.ord = s.ord),
            (SELECT d.reason FROM dead d WHERE d.ord = s.ord)
        FROM record r WHERE r.ord = s.ord AND s.v <> k.v
    ) x ON true;
END $$;

-- Keeps everybody else out of scopes until the end of the transaction, and reads them. They are those named, those that
-- the tasks `a_leave` wait for, and those that the tasks `a_free` hold. Always in one order, so that nobody waits in a circle; who
-- is inside already (`a_more`) does not wait at all.
CREATE FUNCTION @.enter(a_names json, a_leave text[], a_free text[], a_first bigint, a_more boolean)
RETURNS TABLE (scope text, holders bigint, denied boolean, waits text)
LANGUAGE plpgsql VOLATILE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    seed constant bigint := 'waiting'::regclass::oid::bigint;
    names text[];
    k bigint;
BEGIN
    names := ARRAY(
        SELECT json_array_elements_text(a_names)
        UNION SELECT w.scope FROM task t JOIN waiting w ON w.ord = t.ord WHERE t.id = ANY (a_leave)
        UNION SELECT l.scope FROM task t JOIN slot l ON l.ord = t.ord WHERE t.id = ANY (a_free)
    );
    FOR k IN SELECT DISTINCT hashtextextended(n, seed) FROM unnest(names) n ORDER BY 1 LOOP
        IF NOT a_more THEN
            PERFORM pg_advisory_xact_lock(k);
        ELSIF NOT pg_try_advisory_xact_lock(k) THEN
            RAISE EXCEPTION 'somebody works in the scope' USING ERRCODE = 'serialization_failure';
        END IF;
    END LOOP;
    RETURN QUERY
    SELECT n,
        coalesce((SELECT l.place + 1 FROM slot l WHERE l.scope = n ORDER BY l.place DESC LIMIT 1), 0)::bigint,
        EXISTS (SELECT 1 FROM waiting w WHERE w.scope = n AND w.denied),
        (SELECT string_agg(q.ord::text, ' ') FROM
            (SELECT w.ord FROM waiting w WHERE w.scope = n ORDER BY w.ord LIMIT a_first) q)
    FROM unnest(names) n;
END $$;

-- The same without waiting, to see where there is room: nothing is answered of a scope that somebody works in.
CREATE FUNCTION @.glance(a_names json) RETURNS TABLE (scope text, holders bigint)
LANGUAGE plpgsql VOLATILE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    seed constant bigint := 'waiting'::regclass::oid::bigint;
    names text[];
BEGIN
    names := ARRAY(SELECT n FROM json_array_elements_text(a_names) n
        WHERE pg_try_advisory_xact_lock(hashtextextended(n, seed)));
    RETURN QUERY
    SELECT n, coalesce((SELECT l.place + 1 FROM slot l WHERE l.scope = n ORDER BY l.place DESC LIMIT 1), 0)::bigint
    FROM unnest(names) n;
END $$;

-- Holds due tasks, oldest first; never waits for those that somebody else holds.
CREATE FUNCTION @.due(a_now bigint, a_far bigint, a_limit bigint, a_signalled boolean) RETURNS TABLE (id text)
LANGUAGE plpgsql VOLATILE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    IF a_signalled THEN
        RETURN QUERY
        WITH q AS MATERIALIZED (
            SELECT s.ord, s.look_at FROM state s
            WHERE s.ord IN (SELECT g.ord FROM signal g WHERE g.body IS NOT NULL)
            AND (s.look_at <= a_now OR s.look_at > a_far
                OR EXISTS (SELECT 1 FROM woken w WHERE w.ord = s.ord AND w.at <= a_now))
            ORDER BY (s.look_at <= a_now) DESC, s.look_at, s.ord LIMIT a_limit
            FOR NO KEY UPDATE OF s SKIP LOCKED
        )
        SELECT t.id FROM q JOIN task t ON t.ord = q.ord ORDER BY (q.look_at <= a_now) DESC, q.look_at, q.ord;
        RETURN;
    END IF;
    RETURN QUERY
    WITH past AS MATERIALIZED (
        SELECT s.ord, s.look_at FROM state s WHERE s.look_at <= a_now
        ORDER BY s.look_at, s.ord LIMIT a_limit FOR NO KEY UPDATE OF s SKIP LOCKED
    ), ahead AS MATERIALIZED (
        SELECT s.ord, s.look_at FROM state s WHERE s.look_at > a_far
        ORDER BY s.look_at, s.ord LIMIT a_limit FOR NO KEY UPDATE OF s SKIP LOCKED
    ), called AS MATERIALIZED (
        SELECT s.ord, w.at AS look_at FROM woken w JOIN state s ON s.ord = w.ord WHERE w.at <= a_now
        ORDER BY w.at, w.ord LIMIT a_limit FOR NO KEY UPDATE OF s SKIP LOCKED
    ), every AS (
        SELECT u.ord, min(u.look_at) AS look_at
        FROM (SELECT * FROM past UNION ALL SELECT * FROM ahead UNION ALL SELECT * FROM called) u GROUP BY u.ord
    )
    SELECT t.id FROM every e JOIN task t ON t.ord = e.ord
    ORDER BY (e.look_at <= a_now) DESC, e.look_at, e.ord LIMIT a_limit;
END $$;

-- Holds the tasks that workers have leased.
CREATE FUNCTION @.leased(a_workers text[]) RETURNS TABLE (id text)
LANGUAGE plpgsql VOLATILE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH q AS MATERIALIZED (
        SELECT s.ord FROM state s WHERE s.look_at IS NOT NULL AND s.worker = ANY (a_workers)
        ORDER BY s.ord FOR NO KEY UPDATE OF s
    )
    SELECT t.id FROM q JOIN task t ON t.ord = q.ord;
END $$;

-- Writes what a transaction has changed, of tasks that it holds and scopes that it is in.
CREATE FUNCTION @.put(
    t_ord bigint[], t_id text[], t_usr text[], t_idem text[], t_hash text[], t_repo text[], t_fixed text[],
    r_ord bigint[], r_id text[], r_status text[], r_ended bigint[], r_moving text[],
    s_ord bigint[], s_v bigint[], s_revision bigint[], s_epoch bigint[], s_look_at bigint[], s_due bigint[],
    s_lease_until bigint[], s_worker text[], s_denied boolean[], s_woken bigint[], s_heartbeat bigint[],
    s_events bigint[], s_log_len bigint[], s_commits text[], s_owed text[],
    e_ord bigint[], e_seq bigint[], e_body text[],
    l_ord bigint[], l_seq bigint[], l_body text[],
    g_ord bigint[], g_id text[], g_n bigint[], g_body text[],
    f_ord bigint[],
    k_scope text[], k_ord bigint[], k_cap bigint[],
    w_scope text[], w_ord bigint[], w_usr text[], w_denied boolean[],
    x_scope text[], x_ord bigint[],
    c_ord bigint[], c_n bigint[], n_ord bigint[], n_at bigint[],
    d_ord bigint[], d_since bigint[], d_reason text[], a_ord bigint[],
    y_ord bigint[], y_v bigint[]
) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
-- Whoever is remembered is not waited for long: begin again and hold it.
SET lock_timeout = '1s' AS $$
#variable_conflict use_column
DECLARE
    me bigint;
    old bigint;
    new bigint;
    r record;
BEGIN
    -- In this order: `horizon` knows writers by the lock.
    LOCK TABLE state IN ROW SHARE MODE;
    me := pg_current_xact_id()::text::bigint;
    -- States come first: whoever has a task's state has the rest of it too.
    IF cardinality(s_ord) > 0 THEN
        UPDATE state o SET v = u.v, told = greatest(o.told, me), revision = u.revision, epoch = u.epoch,
            look_at = u.look_at, due = u.due, lease_until = u.lease_until, worker = u.worker, denied = u.denied,
            woken = u.woken, heartbeat = u.heartbeat, events = u.events, log_len = u.log_len, commits = u.commits,
            owed = u.owed
        FROM unnest(s_ord, s_v, s_revision, s_epoch, s_look_at, s_due, s_lease_until, s_worker, s_denied, s_woken,
            s_heartbeat, s_events, s_log_len, s_commits, s_owed) AS u (ord, v, revision, epoch, look_at, due,
            lease_until, worker, denied, woken, heartbeat, events, log_len, commits, owed)
        WHERE o.ord = u.ord AND o.v = u.v - 1;
        GET DIAGNOSTICS old = ROW_COUNT;
        IF old < cardinality(s_ord) THEN
            INSERT INTO state (ord, v, told, revision, epoch, look_at, due, lease_until, worker, denied, woken,
                heartbeat, events, log_len, commits, owed)
            SELECT u.ord, u.v, me, u.revision, u.epoch, u.look_at, u.due, u.lease_until, u.worker, u.denied, u.woken,
                u.heartbeat, u.events, u.log_len, u.commits, u.owed
            FROM unnest(s_ord, s_v, s_revision, s_epoch, s_look_at, s_due, s_lease_until, s_worker, s_denied, s_woken,
                s_heartbeat, s_events, s_log_len, s_commits, s_owed) AS u (ord, v, revision, epoch, look_at, due,
                lease_until, worker, denied, woken, heartbeat, events, log_len, commits, owed)
            WHERE u.v = 1;
            GET DIAGNOSTICS new = ROW_COUNT;
            IF old + new < cardinality(s_ord) THEN
                RAISE EXCEPTION 'a task is not as it was remembered' USING ERRCODE = 'serialization_failure';
            END IF;
        END IF;
    END IF;
    -- Tasks that were looked at from memory, and not changed: they must be as they were.
    IF cardinality(y_ord) > 0 AND EXISTS (
        SELECT 1 FROM unnest(y_ord, y_v) AS y (ord, v) LEFT JOIN state s ON s.ord = y.ord WHERE s.v IS DISTINCT FROM y.v
    ) THEN
        RAISE EXCEPTION 'a task is not as it was remembered' USING ERRCODE = 'serialization_failure';
    END IF;
    IF cardinality(t_ord) > 0 THEN
        INSERT INTO task (ord, id, usr, idem, hash, repo, fixed)
        SELECT * FROM unnest(t_ord, t_id, t_usr, t_idem, t_hash, t_repo, t_fixed);
    END IF;
    IF cardinality(r_ord) > 0 THEN
        INSERT INTO record (ord, id, status, ended, moving)
        SELECT * FROM unnest(r_ord, r_id, r_status, r_ended, r_moving)
        ON CONFLICT (ord) DO UPDATE SET status = excluded.status, ended = excluded.ended, moving = excluded.moving;
    END IF;
    IF cardinality(e_ord) > 0 THEN
        INSERT INTO event (ord, seq, told, body)
        SELECT u.ord, u.seq, s.told, u.body
        FROM unnest(e_ord, e_seq, e_body) AS u (ord, seq, body) JOIN state s ON s.ord = u.ord;
    END IF;
    IF cardinality(l_ord) > 0 THEN
        INSERT INTO log (ord, seq, body) SELECT * FROM unnest(l_ord, l_seq, l_body);
    END IF;
    IF cardinality(g_ord) > 0 THEN
        -- The same signal may come and be consumed in one transaction: the last word counts.
        INSERT INTO signal (ord, id, n, body)
        SELECT DISTINCT ON (u.ord, u.id) u.ord, u.id, u.n, u.body
        FROM unnest(g_ord, g_id, g_n, g_body) WITH ORDINALITY AS u (ord, id, n, body, i)
        ORDER BY u.ord, u.id, u.i DESC
        ON CONFLICT (ord, id) DO UPDATE SET body = excluded.body;
    END IF;
    IF cardinality(f_ord) > 0 THEN
        -- The last holder of a scope takes over a place that became free, so that there are no gaps.
        FOR r IN DELETE FROM slot WHERE ord = ANY (f_ord) RETURNING scope, place LOOP
            UPDATE slot l SET place = r.place WHERE l.scope = r.scope AND l.place > r.place
            AND l.place = (SELECT m.place FROM slot m WHERE m.scope = r.scope ORDER BY m.place DESC LIMIT 1);
        END LOOP;
    END IF;
    IF cardinality(k_ord) > 0 THEN
        INSERT INTO slot (scope, place, cap, ord)
        SELECT u.scope,
            coalesce((SELECT l.place + 1 FROM slot l WHERE l.scope = u.scope ORDER BY l.place DESC LIMIT 1), 0)
                + row_number() OVER (PARTITION BY u.scope ORDER BY u.i) - 1,
            u.cap, u.ord
        FROM unnest(k_scope, k_ord, k_cap) WITH ORDINALITY AS u (scope, ord, cap, i) ORDER BY u.i;
    END IF;
    IF cardinality(w_ord) > 0 THEN
        INSERT INTO waiting (scope, ord, usr, denied) SELECT DISTINCT * FROM unnest(w_scope, w_ord, w_usr, w_denied)
        ON CONFLICT (scope, ord) DO UPDATE SET denied = excluded.denied;
    END IF;
    IF cardinality(x_ord) > 0 THEN
        DELETE FROM waiting w USING unnest(x_scope, x_ord) AS u (scope, ord) WHERE w.scope = u.scope AND w.ord = u.ord;
    END IF;
    IF cardinality(c_ord) > 0 THEN
        DELETE FROM woken WHERE ord = ANY (c_ord);
    END IF;
    IF cardinality(c_n) > 0 THEN
        DELETE FROM woken WHERE n = ANY (c_n);
    END IF;
    IF cardinality(n_ord) > 0 THEN
        INSERT INTO woken (ord, at) SELECT u.ord, u.at FROM unnest(n_ord, n_at) AS u (ord, at)
        WHERE NOT EXISTS (SELECT 1 FROM woken w WHERE w.ord = u.ord);
    END IF;
    IF cardinality(a_ord) > 0 THEN
        DELETE FROM dead WHERE ord = ANY (a_ord);
    END IF;
    IF cardinality(d_ord) > 0 THEN
        INSERT INTO dead (ord, since, reason) SELECT * FROM unnest(d_ord, d_since, d_reason)
        ON CONFLICT (ord) DO UPDATE SET since = excluded.since, reason = excluded.reason;
    END IF;
END $$;

-- Removes tasks with everything of them, of which the transaction holds every one and is in every scope.
CREATE FUNCTION @.remove(a_ord bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    r record;
BEGIN
    FOR r IN DELETE FROM slot WHERE ord = ANY (a_ord) RETURNING scope, place LOOP
        UPDATE slot l SET place = r.place WHERE l.scope = r.scope AND l.place > r.place
        AND l.place = (SELECT m.place FROM slot m WHERE m.scope = r.scope ORDER BY m.place DESC LIMIT 1);
    END LOOP;
    DELETE FROM waiting WHERE ord = ANY (a_ord);
    DELETE FROM woken WHERE ord = ANY (a_ord);
    DELETE FROM signal WHERE ord = ANY (a_ord);
    DELETE FROM dead WHERE ord = ANY (a_ord);
    DELETE FROM event WHERE ord = ANY (a_ord);
    DELETE FROM log WHERE ord = ANY (a_ord);
    DELETE FROM record WHERE ord = ANY (a_ord);
    DELETE FROM state WHERE ord = ANY (a_ord);
    DELETE FROM task WHERE ord = ANY (a_ord);
END $$;
