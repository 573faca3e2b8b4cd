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
CREATE INDEX record_open ON @.record (id) WHERE ended IS NULL;
CREATE INDEX record_ended ON @.record (ended, ord) WHERE ended IS NOT NULL;

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
    cap    bigint NOT NULL,
    PRIMARY KEY (scope, ord)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX waiting_denied ON @.waiting (scope, usr, ord) WHERE denied;
-- Gives no order: else, with many tasks, the planner would look for the first of a scope among all.
CREATE INDEX waiting_task ON @.waiting USING hash (ord);

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

-- Plans are made once for each connection, perhaps while a table is still empty. Connections that write are told once what is
-- right for full tables, since a function's own settings cost more than what it does; functions that readers call have
-- settings of their own.

-- Whole tasks as they are now. Of those whose version is known only what others may have added is answered. Part of the plan of
-- whoever asks.
CREATE FUNCTION @.rows(a_ids text[], a_known bigint[]) RETURNS TABLE (
    id text, ord bigint, v bigint, told bigint, wakes text, hash text, fixed text, moving text, revision bigint, epoch bigint,
    due bigint, lease_until bigint, worker text, denied boolean, woken bigint, heartbeat bigint, events bigint,
    log_len bigint, commits text, owed text, held text, signals text, seen text, dead bigint, reason text
) LANGUAGE sql STABLE AS $$
    SELECT t.id, s.ord, s.v, s.told,
        (SELECT string_agg(w.n || ' ' || w.at, ' ') FROM @.woken w WHERE w.ord = t.ord),
        x.*
    FROM unnest(a_ids, a_known) AS k (id, v)
    JOIN @.task t ON t.id = k.id
    JOIN @.state s ON s.ord = t.ord
    LEFT JOIN LATERAL (
        SELECT t.hash, t.fixed, r.moving, s.revision, s.epoch, s.due, s.lease_until, s.worker, s.denied, s.woken,
            s.heartbeat, s.events, s.log_len, s.commits, s.owed,
            (SELECT json_agg(l.scope ORDER BY l.taken)::text FROM @.slot l WHERE l.ord = s.ord),
            (SELECT string_agg(g.body, ',' ORDER BY g.n) FROM @.signal g WHERE g.ord = s.ord AND g.body IS NOT NULL),
            (SELECT json_agg(g.id)::text FROM @.signal g WHERE g.ord = s.ord),
            (SELECT d.since FROM @.dead d WHERE d.ord = s.ord),
            (SELECT d.reason FROM @.dead d WHERE d.ord = s.ord)
        FROM @.record r WHERE r.ord = s.ord AND s.v <> k.v
    ) x ON true
$$;

-- The same for readers.
CREATE FUNCTION @.look(a_ids text[]) RETURNS TABLE (
    id text, ord bigint, v bigint, told bigint, wakes text, hash text, fixed text, moving text, revision bigint, epoch bigint,
    due bigint, lease_until bigint, worker text, denied boolean, woken bigint, heartbeat bigint, events bigint,
    log_len bigint, commits text, owed text, held text, signals text, seen text, dead bigint, reason text
) LANGUAGE sql STABLE SET search_path = @, pg_temp SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT * FROM rows(a_ids, ARRAY(SELECT -1::bigint FROM unnest(a_ids)))
$$;

-- Tasks as they are now. With `a_lock` held until the end of the transaction, and read then: whoever held them before has ended
-- by then. Otherwise whoever writes them finds out whether somebody was quicker.
CREATE FUNCTION @.hold(a_ids text[], a_known bigint[], a_lock boolean) RETURNS TABLE (
    id text, ord bigint, v bigint, told bigint, wakes text, hash text, fixed text, moving text, revision bigint, epoch bigint,
    due bigint, lease_until bigint, worker text, denied boolean, woken bigint, heartbeat bigint, events bigint,
    log_len bigint, commits text, owed text, held text, signals text, seen text, dead bigint, reason text
) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    IF a_lock THEN
        PERFORM 1 FROM @.state s WHERE s.ord IN (SELECT t.ord FROM @.task t WHERE t.id = ANY (a_ids))
            ORDER BY s.ord FOR NO KEY UPDATE OF s;
    END IF;
    RETURN QUERY SELECT * FROM @.rows(a_ids, a_known);
END $$;

-- Keeps everybody else out of scopes until the end of the transaction, and reads them. They are those named, those that
-- the tasks `a_leave` wait for, and those that the tasks `a_free` hold. Always in one order, so that nobody waits in a circle; who
-- is inside already (`a_more`) does not wait at all.
CREATE FUNCTION @.enter(a_names json, a_leave text[], a_free text[], a_first bigint, a_more boolean)
RETURNS TABLE (scope text, holders bigint, denied boolean, waits text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    seed constant bigint := '@.waiting'::regclass::oid::bigint;
    names text[];
    k bigint;
BEGIN
    names := ARRAY(
        SELECT json_array_elements_text(a_names)
        UNION SELECT w.scope FROM @.task t JOIN @.waiting w ON w.ord = t.ord WHERE t.id = ANY (a_leave)
        UNION SELECT l.scope FROM @.task t JOIN @.slot l ON l.ord = t.ord WHERE t.id = ANY (a_free)
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
        coalesce((SELECT l.place + 1 FROM @.slot l WHERE l.scope = n ORDER BY l.place DESC LIMIT 1), 0)::bigint,
        coalesce((SELECT w.denied FROM @.waiting w WHERE w.scope = n AND w.denied ORDER BY w.usr, w.ord LIMIT 1), false),
        (SELECT string_agg(q.ord::text, ' ') FROM
            (SELECT w.ord FROM @.waiting w WHERE w.scope = n ORDER BY w.ord LIMIT a_first) q)
    FROM unnest(names) n;
END $$;

-- The same without waiting, to see where there is room: nothing is answered of a scope that somebody works in.
CREATE FUNCTION @.glance(a_names json) RETURNS TABLE (scope text, holders bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    seed constant bigint := '@.waiting'::regclass::oid::bigint;
    names text[];
BEGIN
    names := ARRAY(SELECT n FROM json_array_elements_text(a_names) n
        WHERE pg_try_advisory_xact_lock(hashtextextended(n, seed)));
    RETURN QUERY
    SELECT n, coalesce((SELECT l.place + 1 FROM @.slot l WHERE l.scope = n ORDER BY l.place DESC LIMIT 1), 0)::bigint
    FROM unnest(names) n;
END $$;

-- The next tasks that were denied in a scope, users in order, up to the first that could be offered room: with how many more
-- fit into its other scopes, and whether it was woken before. Of a user the first without room there stands for all, where
-- `a_ahead` were offered room. A scope that somebody else works in counts as free; it is locked for a moment only, else whoever
-- looks at many would hold them all.
CREATE FUNCTION @.lanes(a_scope text, a_usr text, a_ord bigint, a_ahead bigint, a_most bigint)
RETURNS TABLE (id text, usr text, ord bigint, cap bigint, room bigint, woken boolean)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    seed constant bigint := '@.waiting'::regclass::oid::bigint;
    most constant bigint := 9223372036854775807;
    u text := a_usr;
    f bigint := a_ord;
    ahead bigint := a_ahead;
    w record;
    o record;
    n bigint;
    free bigint;
BEGIN
    FOR i IN 1..a_most LOOP
        SELECT t.id, x.usr, x.ord, x.cap,
            (s.woken IS NOT NULL OR EXISTS (SELECT 1 FROM @.woken k WHERE k.ord = x.ord)) AS woken INTO w
            FROM @.waiting x JOIN @.task t ON t.ord = x.ord JOIN @.state s ON s.ord = x.ord
            WHERE x.scope = a_scope AND x.denied AND (x.usr, x.ord) > (u, f) ORDER BY x.usr, x.ord LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        IF w.usr <> u THEN
            ahead := 0;
        END IF;
        free := most;
        FOR o IN SELECT x.cap, x.scope, hashtextextended(x.scope, seed) AS k FROM @.waiting x
            WHERE x.ord = w.ord AND x.scope <> a_scope LOOP
            IF pg_try_advisory_lock(o.k) THEN
                n := (SELECT l.place + 1 FROM @.slot l WHERE l.scope = o.scope ORDER BY l.place DESC LIMIT 1);
                PERFORM pg_advisory_unlock(o.k);
                free := least(free, o.cap - coalesce(n, 0));
            END IF;
        END LOOP;
        id := w.id;
        usr := w.usr;
        ord := w.ord;
        cap := w.cap;
        room := greatest(free, 0);
        woken := w.woken;
        RETURN NEXT;
        u := w.usr;
        IF free <= ahead THEN
            f := most;
        ELSIF w.woken THEN
            f := w.ord;
            ahead := ahead + 1;
        ELSE
            RETURN;
        END IF;
    END LOOP;
END $$;

-- Holds due tasks, oldest first; never waits for those that somebody else holds.
CREATE FUNCTION @.due(a_now bigint, a_far bigint, a_limit bigint, a_signalled boolean) RETURNS TABLE (id text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    IF a_signalled THEN
        RETURN QUERY
        WITH q AS MATERIALIZED (
            SELECT s.ord, s.look_at FROM @.state s
            WHERE s.ord IN (SELECT g.ord FROM @.signal g WHERE g.body IS NOT NULL)
            AND (s.look_at <= a_now OR s.look_at > a_far
                OR EXISTS (SELECT 1 FROM @.woken w WHERE w.ord = s.ord AND w.at <= a_now))
            ORDER BY (s.look_at <= a_now) DESC, s.look_at, s.ord LIMIT a_limit
            FOR NO KEY UPDATE OF s SKIP LOCKED
        )
        SELECT t.id FROM q JOIN @.task t ON t.ord = q.ord ORDER BY (q.look_at <= a_now) DESC, q.look_at, q.ord;
        RETURN;
    END IF;
    RETURN QUERY
    WITH past AS MATERIALIZED (
        SELECT s.ord, s.look_at FROM @.state s WHERE s.look_at <= a_now
        ORDER BY s.look_at, s.ord LIMIT a_limit FOR NO KEY UPDATE OF s SKIP LOCKED
    ), ahead AS MATERIALIZED (
        SELECT s.ord, s.look_at FROM @.state s WHERE s.look_at > a_far
        ORDER BY s.look_at, s.ord LIMIT a_limit FOR NO KEY UPDATE OF s SKIP LOCKED
    ), called AS MATERIALIZED (
        SELECT s.ord, w.at AS look_at FROM @.woken w JOIN @.state s ON s.ord = w.ord WHERE w.at <= a_now
        ORDER BY w.at, w.ord LIMIT a_limit FOR NO KEY UPDATE OF s SKIP LOCKED
    ), every AS (
        SELECT u.ord, min(u.look_at) AS look_at
        FROM (SELECT * FROM past UNION ALL SELECT * FROM ahead UNION ALL SELECT * FROM called) u GROUP BY u.ord
    )
    SELECT t.id FROM every e JOIN @.task t ON t.ord = e.ord
    ORDER BY (e.look_at <= a_now) DESC, e.look_at, e.ord LIMIT a_limit;
END $$;

-- Holds the tasks that workers have leased.
CREATE FUNCTION @.leased(a_workers text[]) RETURNS TABLE (id text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH q AS MATERIALIZED (
        SELECT s.ord FROM @.state s WHERE s.look_at IS NOT NULL AND s.worker = ANY (a_workers)
        ORDER BY s.ord FOR NO KEY UPDATE OF s
    )
    SELECT t.id FROM q JOIN @.task t ON t.ord = q.ord;
END $$;

-- After slots were freed the last holders of their scopes take over the places, so that there are no gaps.
CREATE FUNCTION @.close_up(a_scopes text[], a_places bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    IF a_scopes IS NULL THEN
        RETURN;
    END IF;
    -- `holders` is how many there are now: places had no gaps before. By place the planner would read whole scopes.
    UPDATE @.slot o SET place = m.free
    FROM (
        SELECT q.at, s.places[q.i] AS free
        FROM (
            SELECT g.scope, array_agg(g.place ORDER BY g.place) AS places, greatest(max(g.place),
                (SELECT l.place FROM @.slot l WHERE l.scope = g.scope ORDER BY l.place DESC LIMIT 1)) + 1 - count(*) AS holders
            FROM unnest(a_scopes, a_places) AS g (scope, place) GROUP BY g.scope
        ) s CROSS JOIN LATERAL (
            SELECT l.ctid AS at, row_number() OVER (ORDER BY l.place) AS i
            FROM @.slot l WHERE l.scope = s.scope AND l.place >= s.holders
        ) q
    ) m
    WHERE o.ctid = m.at;
END $$;

-- Passes slots on from tasks that give them back, frees the others of theirs, and gives out more, in scopes that the
-- transaction is in. The holders of a scope are numbered without gaps.
CREATE FUNCTION @.slots(
    p_scope text[], p_from bigint[], p_to bigint[], p_cap bigint[],
    f_ord bigint[], k_scope text[], k_ord bigint[], k_cap bigint[]
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    scopes text[];
    places bigint[];
BEGIN
    IF cardinality(p_to) > 0 THEN
        UPDATE @.slot o SET ord = u.new, cap = u.cap, taken = DEFAULT
        FROM unnest(p_scope, p_from, p_to, p_cap) AS u (scope, old, new, cap) WHERE o.ord = u.old AND o.scope = u.scope;
    END IF;
    IF cardinality(f_ord) > 0 THEN
        WITH gone AS (DELETE FROM @.slot WHERE ord = ANY (f_ord) RETURNING scope, place)
        SELECT array_agg(scope), array_agg(place) INTO scopes, places FROM gone;
        PERFORM @.close_up(scopes, places);
    END IF;
    IF cardinality(k_ord) > 0 THEN
        INSERT INTO @.slot (scope, place, cap, ord)
        SELECT b.scope, b.place + u.n - 1, u.cap, u.ord
        FROM (
            SELECT k.scope, array_agg(k.ord ORDER BY k.i) AS ords, array_agg(k.cap ORDER BY k.i) AS caps,
                array_agg(k.i ORDER BY k.i) AS turns,
                coalesce((SELECT l.place + 1 FROM @.slot l WHERE l.scope = k.scope ORDER BY l.place DESC LIMIT 1), 0) AS place
            FROM unnest(k_scope, k_ord, k_cap) WITH ORDINALITY AS k (scope, ord, cap, i) GROUP BY k.scope
        ) b CROSS JOIN LATERAL unnest(b.ords, b.caps, b.turns) WITH ORDINALITY AS u (ord, cap, turn, n)
        ORDER BY u.turn;
    END IF;
END $$;

-- What a statement says that finds a task otherwise than its writer remembers it.
CREATE FUNCTION @.stale() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'a task is not as it was remembered' USING ERRCODE = 'serialization_failure';
END $$;

-- Removes tasks with everything of them, of which the transaction holds every one and is in every scope.
CREATE FUNCTION @.remove(a_ord bigint[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    scopes text[];
    places bigint[];
BEGIN
    WITH gone AS (DELETE FROM @.slot WHERE ord = ANY (a_ord) RETURNING scope, place)
    SELECT array_agg(scope), array_agg(place) INTO scopes, places FROM gone;
    PERFORM @.close_up(scopes, places);
    DELETE FROM @.waiting WHERE ord = ANY (a_ord);
    DELETE FROM @.woken WHERE ord = ANY (a_ord);
    DELETE FROM @.signal WHERE ord = ANY (a_ord);
    DELETE FROM @.dead WHERE ord = ANY (a_ord);
    DELETE FROM @.event WHERE ord = ANY (a_ord);
    DELETE FROM @.log WHERE ord = ANY (a_ord);
    DELETE FROM @.record WHERE ord = ANY (a_ord);
    DELETE FROM @.state WHERE ord = ANY (a_ord);
    DELETE FROM @.task WHERE ord = ANY (a_ord);
END $$;
