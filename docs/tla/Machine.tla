------------------------------ MODULE Machine ------------------------------
(* The task machine: `decide` of abca-core, as a function of a row, of what a worker found out, and of how late it is.

   A row is what a store keeps of one task:
     st    status                       ph   phase of its session      att  attempts begun
     why   why a stop is under way      cxl  a cancel is written down  prep it is prepared
     rep   its session's report is kept in the record
     inbox words that arrived and are not consumed, each with the attempt that it is about (0: none)
     owed  effects that were decided and are not settled

   Time is not a number here. `late` says how long the task has been where it is: "no"; "short" (registration, silence
   and exit patience have passed); "full" (so has the deadline of its state).                                          *)
EXTENDS Integers, FiniteSets

CONSTANTS MaxAttempts,   \* attempts a task has
          Broken         \* names of the guards that are taken away; {} for the design as it is

Waiting  == {"submitted", "queued"}
Holding  == {"hydrating", "running", "awaiting", "finalizing"}
Terminal == {"completed", "failed", "cancelled", "timed_out"}
Status   == {"pending"} \cup Waiting \cup Holding \cup Terminal
Phases   == {"none", "starting", "live", "stopping", "over"}
Whys     == {"none", "cancelled", "deadline", "lost", "start_failed"}
Attempts == 1..MaxAttempts
Words    == {<<"cancel", 0>>, <<"uploads", 0>>, <<"ask", 0>>, <<"answer", 0>>}
            \cup ({"registered", "result", "exited"} \X Attempts)

(* The closed table of transitions: TRANSITIONS of task/status.rs, without its causes and events. *)
Table == {<<"pending", "submitted">>, <<"pending", "cancelled">>}
    \cup {"submitted"} \X {"hydrating", "queued", "failed", "timed_out", "cancelled"}
    \cup {"queued"} \X {"hydrating", "timed_out", "cancelled"}
    \cup {"hydrating"} \X {"running", "failed", "timed_out", "cancelled"}
    \cup {"running"} \X {"awaiting", "finalizing", "hydrating", "completed", "failed", "timed_out", "cancelled"}
    \cup {"awaiting"} \X {"running", "finalizing", "hydrating", "completed", "failed", "timed_out", "cancelled"}
    \cup {"finalizing"} \X {"completed", "failed", "timed_out", "cancelled"}

NewRow(pending) ==
  [st |-> IF pending THEN "pending" ELSE "submitted", ph |-> "none", att |-> 0, why |-> "none", cxl |-> FALSE,
   prep |-> FALSE, rep |-> FALSE, inbox |-> {}, owed |-> {}]

-----------------------------------------------------------------------------
(* Decisions. `slots` is what a commit does with them; `unconf` that it gives up a stop which nobody confirmed. *)
Do(kind)             == [k |-> kind, r |-> NewRow(FALSE), slots |-> "keep", unconf |-> FALSE]
Wait                 == Do("wait")
Commit(r)            == [k |-> "commit", r |-> r, slots |-> "keep", unconf |-> FALSE]
Acquire(r)           == [Commit(r) EXCEPT !.slots = "acquire"]

Has(r, word)         == \E w \in r.inbox : w[1] = word /\ w[2] \in {0, r.att}
Drop(r, words)       == [r EXCEPT !.inbox = {w \in @ : w[1] \notin words}]
Current(r)           == r.ph \in {"starting", "live", "stopping"}
Reported(r)          == r.rep \/ Has(r, "result")

\* Every end settles what is owed, reads the whole inbox and gives the slots back.
End(r, st, unconf) ==
  [k |-> "commit", slots |-> IF r.st \in Holding THEN "release" ELSE "keep", unconf |-> unconf,
   r |-> [r EXCEPT !.st = st, !.inbox = {}, !.owed = {}, !.ph = IF @ = "none" THEN "none" ELSE "over"]]

StopSession(r, why) == [r EXCEPT !.ph = "stopping", !.why = why, !.owed = {"stop"}]

StartIntent(r) == [r EXCEPT !.att = @ + 1, !.ph = "starting", !.why = "none", !.owed = {"start"}]

Registered(r) == [Drop(r, {"registered"}) EXCEPT !.st = "running", !.ph = "live", !.owed = {}]

Lost(r, unconf) ==
  IF r.att >= MaxAttempts \/ unconf \/ r.st = "finalizing" THEN End(r, "failed", unconf)
  ELSE Commit([Drop(r, {"registered", "exited", "result", "ask"}) EXCEPT !.st = "hydrating", !.ph = "over", !.owed = {}])

AfterStop(r, unconf) ==
  CASE r.cxl                                  -> End(r, "cancelled", unconf)
    [] ~r.cxl /\ Reported(r) /\ r.st # "hydrating" -> End(r, "completed", unconf)
    [] ~r.cxl /\ ~(Reported(r) /\ r.st # "hydrating") /\ r.why = "deadline" -> End(r, "timed_out", unconf)
    [] OTHER                                  -> Lost(r, unconf)

Cancel(r) ==
  LET noted == [Drop(r, {"cancel"}) EXCEPT !.cxl = TRUE] IN
  CASE r.ph \in {"none", "over"} -> End(noted, "cancelled", FALSE)
    [] r.ph \in {"starting", "live"} ->
         IF "stop_first" \in Broken THEN End(noted, "cancelled", FALSE) ELSE Commit(StopSession(noted, "cancelled"))
    [] r.ph = "stopping" -> Commit(noted)

Stopping(r, obs, late) ==
  CASE "stopped" \in obs \/ "stop" \notin r.owed -> AfterStop(r, FALSE)
    [] "stopped" \notin obs /\ "stop" \in r.owed /\ "stop_failed" \in obs ->
         IF late = "full" THEN AfterStop(r, TRUE) ELSE Wait
    [] OTHER -> Do("stop")

\* The session has reported: it is over, or lingers.
Outcome(r, obs, late) ==
  CASE r.st = "hydrating"             -> Commit(Registered(r))
    [] r.st # "hydrating" /\ obs \cap {"gone", "up", "unseen"} = {} -> Do("observe")
    [] r.st # "hydrating" /\ "gone" \in obs -> End(r, "completed", FALSE)
    [] OTHER ->
         IF r.st = "finalizing"
         THEN IF late = "no" THEN Wait ELSE Commit(StopSession(r, "lost"))
         ELSE Commit([Drop(r, {"result"}) EXCEPT !.st = "finalizing", !.rep = TRUE])

Deadline(r) ==
  IF Current(r) THEN Commit(StopSession(r, "deadline"))
  ELSE IF r.st = "pending" THEN End(r, "cancelled", FALSE) ELSE End(r, "timed_out", FALSE)

Admission(r, obs) ==
  LET admitted == [r EXCEPT !.st = "hydrating"]
      ready    == [admitted EXCEPT !.prep = TRUE] IN
  IF "denied" \in obs THEN IF r.st = "submitted" THEN Commit([r EXCEPT !.st = "queued"]) ELSE Wait
  ELSE IF r.st = "queued" THEN Acquire(admitted)
  ELSE IF "unprepared" \in obs THEN End(r, "failed", FALSE)
  ELSE IF "prepared" \in obs THEN Acquire(IF "outbox" \in Broken THEN ready ELSE StartIntent(ready))
  ELSE Do("prepare")

Preparation(r, obs) ==
  IF r.prep \/ "prepared" \in obs
  THEN \* Broken: the world is touched first, and what was done is written down afterwards.
       IF "outbox" \in Broken /\ "started" \notin obs THEN Do("start") ELSE Commit(StartIntent([r EXCEPT !.prep = TRUE]))
  ELSE IF "unprepared" \in obs THEN End(r, "failed", FALSE) ELSE Do("prepare")

Starting(r, obs, late) ==
  IF Has(r, "registered") THEN Commit(Registered(r))
  ELSE IF late # "no" THEN Commit(StopSession(r, "lost"))
  ELSE IF Has(r, "exited") /\ obs \cap {"gone", "up", "unseen"} = {} THEN Do("observe")
  ELSE IF Has(r, "exited") /\ "gone" \in obs THEN Commit(StopSession(r, "lost"))
  ELSE IF "started" \in obs THEN Wait
  ELSE IF "start_failed" \in obs THEN Commit(StopSession(r, "start_failed"))
  ELSE IF "start" \in r.owed THEN Do("start") ELSE Wait

Alive(r, obs, late) ==
  IF r.st = "running" /\ Has(r, "ask") THEN Commit([Drop(r, {"ask"}) EXCEPT !.st = "awaiting"])
  \* The answer is not consumed: the session still has to hear it.
  ELSE IF r.st = "awaiting" /\ Has(r, "answer") THEN Commit([r EXCEPT !.st = "running"])
  ELSE IF obs \cap {"gone", "up", "unseen"} = {} THEN Do("observe")
  ELSE IF "gone" \in obs THEN Lost(r, FALSE)
  ELSE IF "unseen" \in obs THEN Wait
  ELSE IF late # "no" /\ ~(r.st = "awaiting" /\ "gate_deadline" \in Broken)
       THEN Commit(StopSession(r, "lost")) ELSE Wait

(* The precedence of causes: terminal, cancel, a stop under way, the session's outcome, deadline, liveness, progress. *)
Decide(r, obs, late) ==
  IF r.st \in Terminal THEN Wait
  ELSE IF Has(r, "cancel") /\ ~r.cxl THEN Cancel(r)
  ELSE IF r.ph = "stopping" THEN Stopping(r, obs, late)
  ELSE IF Current(r) /\ Reported(r) THEN Outcome(r, obs, late)
  ELSE IF late = "full" /\ ~(r.st = "awaiting" /\ "gate_deadline" \in Broken) THEN Deadline(r)
  ELSE IF r.st = "pending" THEN
         IF Has(r, "uploads") THEN Commit([Drop(r, {"uploads"}) EXCEPT !.st = "submitted"]) ELSE Wait
  ELSE IF r.st \in Waiting THEN Admission(r, obs)
  ELSE IF r.st = "hydrating" THEN IF Current(r) THEN Starting(r, obs, late) ELSE Preparation(r, obs)
  ELSE IF Current(r) THEN Alive(r, obs, late) ELSE Lost(r, FALSE)
=============================================================================
