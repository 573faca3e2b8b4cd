-------------------------------- MODULE Abca --------------------------------
(* Workers, a store, sessions and people around the task machine, and the promises that hold whatever they do.

   What is abstracted, and why nothing is lost by it:
   * Revision and epoch are counters that only grow, and are only ever compared for equality. So a worker's job does not
     hold the numbers but whether they are still the row's: `cur` (revision) and `own` (epoch).
   * A commit id is a function of the decision and of its revision: a job remembers whether its decision was applied.
   * A lease that is held may be expired at any moment (`thefts`): clocks may be as wrong as they like.
   * `due` is "now", "timer" (some moment to come, which `Fire` brings) or "never".                                   *)
EXTENDS Machine, Sequences, TLC

CONSTANTS Tasks,        \* accepted in the order of their numbers
          Users,        \* whose they are, in turns
          Workers,
          UserCap, SystemCap,
          Uploads,      \* tasks begin PENDING_UPLOADS
          Gates,        \* sessions ask humans
          Tombstones,   \* the backend refuses a start after a stop
          Thefts,       \* leases that expire while their holder still works
          Faults,       \* crashes of workers, lost answers, calls that fail
          Cancels,      \* over all tasks
          LateWords,    \* words of sessions that are gone already
          Repeats,      \* signals sent again
          Silence,      \* how often time may press, over all tasks (99: without limit)
          QueueEnds,    \* time presses tasks that wait for a slot too
          Polls         \* who waits looks again now and then, though nothing has changed

VARIABLES row,      \* the store: one row for each task
          late,     \* how long it has been where it is
          due, lease, woken, denied,
          slots,    \* holders: a task holds a slot of its user and one of the system, or none
          seen,     \* words that each task ever accepted
          sess,     \* sessions: task, attempt -> process, tomb, starts, words said
          jobs,     \* workers: what each read, found out, and is about to do
          human,    \* by task: "quiet", "asked", "answered"
          budget,   \* of mishaps
          ghost     \* what only the properties look at
vars == <<row, late, due, lease, woken, denied, slots, seen, sess, jobs, human, budget, ghost>>
store == <<row, late, due, lease, woken, denied, slots, seen>>

-----------------------------------------------------------------------------
Idle    == [t |-> 0]
NewSess == [p |-> "no", tomb |-> FALSE, starts |-> 0, reg |-> FALSE, worked |-> FALSE, rep |-> FALSE, rang |-> FALSE]
UserOf(t) == ((t - 1) % Users) + 1
Over(t)   == row[t].st \in Terminal
Runs(s)   == s.p \in {"up", "working"}

Init ==
  /\ row    = [t \in Tasks |-> NewRow(Uploads)]
  /\ late   = [t \in Tasks |-> "no"]
  /\ due    = [t \in Tasks |-> IF Uploads THEN "timer" ELSE "now"]
  /\ lease  = [t \in Tasks |-> "none"]
  /\ woken  = {} /\ denied = {} /\ slots = {}
  /\ seen   = [t \in Tasks |-> {}]
  /\ sess   = [t \in Tasks |-> [a \in Attempts |-> NewSess]]
  /\ jobs   = [w \in Workers |-> Idle]
  /\ human  = [t \in Tasks |-> "quiet"]
  /\ budget = [thefts |-> Thefts, faults |-> Faults, cancels |-> Cancels, words |-> LateWords, repeats |-> Repeats,
               silence |-> Silence]
  /\ ghost  = [ends |-> [t \in Tasks |-> 0], asks |-> [t \in Tasks |-> 0], cancelled |-> {}, unconf |-> {},
               wrong |-> {}]

Spend(what)  == budget' = [budget EXCEPT ![what] = @ - 1]
Wrong(what)  == ghost' = [ghost EXCEPT !.wrong = @ \cup {what}]

-----------------------------------------------------------------------------
(* What a worker is about to do. A job is what it read (`r`), how late it was then (`l`), and what it found out since. *)
Chosen(j)   == Decide(j.r, j.obs, j.l)
Read(t)    == [t |-> t, r |-> row[t], l |-> late[t], obs |-> {}, own |-> TRUE, cur |-> TRUE, app |-> FALSE,
               saw |-> IF "slot" \in Broken THEN slots ELSE {}]
\* Facts that a newer row may contradict are found out again.
Again(j)   == [Read(j.t) EXCEPT !.obs = j.obs \ {"denied", "gone", "up", "unseen"}, !.own = j.own]
\* Everybody else's jobs on a task go stale; whose lease was taken, is fenced.
Stale(t, js)  == [w \in Workers |-> IF js[w].t = t THEN [js[w] EXCEPT !.cur = FALSE] ELSE js[w]]
Fenced(t, js) == [w \in Workers |-> IF js[w].t = t THEN [js[w] EXCEPT !.own = FALSE] ELSE js[w]]

Claimable(t) == ~Over(t) /\ (due[t] = "now" \/ lease[t] = "expired")

Claim(w, t) ==
  /\ jobs[w].t = 0 /\ Claimable(t)
  /\ lease' = [lease EXCEPT ![t] = "held"] /\ due' = [due EXCEPT ![t] = "never"]
  /\ woken' = woken \ {t} /\ denied' = denied \ {t}
  /\ jobs' = [Fenced(t, jobs) EXCEPT ![w] = Read(t)]
  /\ UNCHANGED <<row, late, slots, seen, sess, human, budget, ghost>>

\* A lease ends while its holder works (a wrong clock, a worker that hangs), or because its holder is dead.
Expire(t) ==
  /\ lease[t] = "held"
  /\ IF \E w \in Workers : jobs[w].t = t /\ jobs[w].own THEN budget.thefts > 0 /\ Spend("thefts") ELSE UNCHANGED budget
  /\ lease' = [lease EXCEPT ![t] = "expired"]
  /\ UNCHANGED <<row, late, due, woken, denied, slots, seen, sess, jobs, human, ghost>>

Crash(w) ==
  /\ jobs[w].t # 0 /\ budget.faults > 0 /\ Spend("faults")
  /\ jobs' = [jobs EXCEPT ![w] = Idle]
  /\ UNCHANGED <<store, sess, human, ghost>>

Found(w, what) == jobs' = [jobs EXCEPT ![w].obs = @ \cup {what}, ![w].l = late[jobs[w].t]]
Luck(good)     == IF good THEN UNCHANGED budget ELSE budget.faults > 0 /\ Spend("faults")

-----------------------------------------------------------------------------
(* Questions and effects: things that are done to the world, by whoever decided them, however long ago. *)
Prepare(w, good) ==
  /\ Luck(good)
  /\ Found(w, IF good THEN "prepared" ELSE "unprepared")
  /\ UNCHANGED <<store, sess, human, ghost>>

Observe(w, good) ==
  LET j == jobs[w] s == sess[j.t][j.r.att] IN
  /\ Luck(good)
  /\ Found(w, IF ~good THEN "unseen" ELSE IF s.p = "gone" THEN "gone" ELSE "up")
  /\ UNCHANGED <<store, sess, human, ghost>>

\* luck: "good", "bad" (not done), "lost" (done, and the answer lost)
StartSession(w, luck) ==
  LET j == jobs[w]
      a == IF "outbox" \in Broken /\ j.r.ph # "starting" THEN j.r.att + 1 ELSE j.r.att
      s == sess[j.t][a]
      refused == Tombstones /\ s.tomb
      begins  == luck # "bad" /\ ~refused /\ (s.p = "no" \/ (s.tomb /\ s.p = "gone")) IN
  /\ Luck(luck = "good")
  /\ sess' = IF begins THEN [sess EXCEPT ![j.t][a].p = IF "registration" \in Broken THEN "working" ELSE "up",
                                         ![j.t][a].starts = @ + 1]
             ELSE sess
  /\ Found(w, IF luck = "good" /\ ~refused THEN "started" ELSE "start_failed")
  /\ UNCHANGED <<store, human, ghost>>

EndSession(w, good) ==
  LET j == jobs[w] s == sess[j.t][j.r.att] known == s.p # "no" \/ "tombstone" \notin Broken IN
  /\ Luck(good)
  /\ sess' = IF good /\ known THEN [sess EXCEPT ![j.t][j.r.att].p = "gone", ![j.t][j.r.att].tomb = TRUE] ELSE sess
  /\ Found(w, IF good THEN "stopped" ELSE "stop_failed")
  /\ UNCHANGED <<store, human, ghost>>

-----------------------------------------------------------------------------
(* The commit: the only change of a row but for signals. Guards in order: epoch, repetition, revision, slots. *)
EarlierWaits(t)  == \E e \in Tasks : e < t /\ UserOf(e) = UserOf(t) /\ row[e].st \in Waiting
Room(t, holders) == /\ Cardinality({h \in holders : UserOf(h) = UserOf(t)}) < UserCap
                    /\ Cardinality(holders) < SystemCap
MayTake(t, j)    == /\ Room(t, IF "slot" \in Broken THEN j.saw ELSE slots)
                    /\ "fifo" \in Broken \/ ~EarlierWaits(t)

(* Whom freed room wakes: as many of those that were denied as there is room for, users in turn, each in their order. *)
HeldBy(u, holders) == Cardinality({h \in holders : UserOf(h) = u})
Least(a, b)        == IF a < b THEN a ELSE b
First(n, ts)       == {t \in ts : Cardinality({o \in ts : o < t}) < n}
RECURSIVE Walk(_, _, _, _)
Walk(users, room, holders, rows) ==
  IF users = <<>> \/ room <= 0 THEN {}
  ELSE LET u    == Head(users)
           mine == {t \in denied : UserOf(t) = u /\ rows[t].st \in Waiting}
           own  == Least(UserCap - HeldBy(u, holders), SystemCap - Cardinality(holders))
           got  == First(Least(room, own), mine) IN
       got \cup Walk(Tail(users), room - Cardinality(got), holders, rows)
InTurn(u) == [i \in 1..Users |-> ((u - 1 + i) % Users) + 1]

Woken(t, holders, rows) ==
  LET u       == UserOf(t)
      freed   == t \in slots /\ t \notin holders
      left    == row[t].st \in Waiting /\ rows[t].st \notin Waiting
      \* It was perhaps woken for room that it does not take: the next one may have it.
      passed  == left /\ t \notin holders /\ "pass_on" \notin Broken IN
  IF "wake" \in Broken THEN {}
  ELSE (IF freed \/ left THEN Walk(<<u>>, UserCap - HeldBy(u, holders), holders, rows) ELSE {})
       \cup (IF freed \/ passed THEN Walk(InTurn(u), SystemCap - Cardinality(holders), holders, rows) ELSE {})

Apply(w, d, lost) ==
  LET j  == jobs[w]  t == j.t  before == row[t]
      after == [d.r EXCEPT !.inbox = before.inbox \ (j.r.inbox \ d.r.inbox),
                           !.owed  = (before.owed \ (j.r.owed \ d.r.owed)) \cup (d.r.owed \ j.r.owed)]
      rows  == [row EXCEPT ![t] = after]
      moved == after.st # before.st \/ after.ph # before.ph \/ after.att # before.att
      sl == CASE d.slots = "acquire" -> slots \cup {t}
              [] d.slots = "release" -> IF "release" \in Broken THEN slots ELSE slots \ {t}
              [] d.slots = "keep" -> slots
      wake == Woken(t, sl, rows)
      wrongs == (IF ~j.own THEN {"an expired lease's commit was applied"} ELSE {})
           \cup (IF ~j.cur THEN {"a commit was applied on another revision than its own"} ELSE {})
           \cup (IF before.st \in Terminal THEN {"a task that has ended was changed"} ELSE {})
           \cup (IF after.st # before.st /\ <<before.st, after.st>> \notin Table THEN {"a step outside the table"} ELSE {})
           \cup (IF d.slots = "acquire" /\ EarlierWaits(t) THEN {"an earlier task was overtaken"} ELSE {})
      others == Stale(t, jobs)
  IN
  /\ row' = rows /\ slots' = sl
  /\ late' = IF moved THEN [late EXCEPT ![t] = "no"] ELSE late
  /\ lease' = IF after.st \in Terminal THEN [lease EXCEPT ![t] = "none"] ELSE lease
  /\ due' = [x \in Tasks |-> IF x = t /\ after.st \in Terminal THEN "never" ELSE IF x \in wake THEN "now" ELSE due[x]]
  /\ woken' = (woken \cup wake) \ (IF after.st \in Waiting THEN {} ELSE {t})
  /\ denied' = IF after.st \in Waiting THEN denied ELSE denied \ {t}
  /\ ghost' = [ghost EXCEPT !.ends[t] = @ + (IF after.st \in Terminal THEN 1 ELSE 0),
                            !.asks[t] = @ + (IF after.st = "awaiting" /\ before.st # "awaiting" THEN 1 ELSE 0),
                            !.unconf = @ \cup (IF d.unconf THEN {t} ELSE {}),
                            !.wrong = @ \cup wrongs]
  /\ jobs' = IF lost THEN [others EXCEPT ![w] = [j EXCEPT !.app = TRUE, !.cur = FALSE]]
             ELSE [others EXCEPT ![w] = [t |-> t, r |-> after, l |-> late'[t], obs |-> {}, own |-> j.own, cur |-> TRUE,
                                         app |-> FALSE, saw |-> IF "slot" \in Broken THEN sl ELSE {}]]
  /\ UNCHANGED <<seen, sess, human>>

CommitChange(w, d, lost) ==
  LET j == jobs[w] t == j.t IN
  /\ Luck(~lost)
  /\ CASE ~j.own /\ "epoch" \notin Broken ->
            /\ ~lost /\ jobs' = [jobs EXCEPT ![w] = Idle] /\ UNCHANGED <<store, sess, human, ghost>>
       [] ~(~j.own /\ "epoch" \notin Broken) /\ j.app /\ "commit_id" \notin Broken ->
            /\ ~lost /\ jobs' = [jobs EXCEPT ![w] = [Read(t) EXCEPT !.own = j.own]] /\ UNCHANGED <<store, sess, human, ghost>>
       [] ~(~j.own /\ "epoch" \notin Broken) /\ ~(j.app /\ "commit_id" \notin Broken) /\ ~j.cur /\ "revision" \notin Broken ->
            /\ ~lost /\ jobs' = [jobs EXCEPT ![w] = Again(j)]
            /\ IF j.app THEN Wrong("a worker's own commit is told to be stale") ELSE UNCHANGED ghost
            /\ UNCHANGED <<store, sess, human>>
       [] OTHER ->
            IF d.slots = "acquire" /\ ~MayTake(t, j)
            THEN /\ ~lost /\ denied' = denied \cup {t} /\ Found(w, "denied")
                 /\ UNCHANGED <<row, late, due, lease, woken, slots, seen, sess, human, ghost>>
            ELSE Apply(w, d, lost)

\* Nothing to do: the lease is given back. When the row has moved since, the task stays due.
Release(w) ==
  LET j == jobs[w] t == j.t
      moved == (~j.cur /\ "timer" \notin Broken) \/ j.l # late[t] IN
  /\ jobs' = [jobs EXCEPT ![w] = Idle]
  /\ IF (j.own \/ "epoch" \in Broken) /\ ~Over(t) /\ lease[t] # "none"
     THEN /\ lease' = [lease EXCEPT ![t] = "none"]
          /\ due' = [due EXCEPT ![t] = IF moved \/ t \in woken THEN "now" ELSE "timer"]
          /\ woken' = woken \ {t}
     ELSE UNCHANGED <<lease, due, woken>>
  /\ UNCHANGED <<row, late, denied, slots, seen, sess, human, budget, ghost>>

Act(w) ==
  /\ jobs[w].t # 0
  /\ LET d == Chosen(jobs[w]) IN
     CASE d.k = "prepare" -> \E good \in BOOLEAN : Prepare(w, good)
       [] d.k = "observe" -> \E good \in BOOLEAN : Observe(w, good)
       [] d.k = "start"   -> \E luck \in {"good", "bad", "lost"} : StartSession(w, luck)
       [] d.k = "stop"    -> \E good \in BOOLEAN : EndSession(w, good)
       [] d.k = "commit"  -> \E lost \in BOOLEAN : CommitChange(w, d, lost)
       [] d.k = "wait"    -> Release(w)

-----------------------------------------------------------------------------
(* Signals: they come from sessions, people and the backend, and never touch a row but through its inbox. *)
Accepts(t, word) == word \notin seen[t] /\ ~Over(t)
Expects(t, a)    == row[t].att = a /\ row[t].ph \in {"starting", "live"} /\ ~Over(t)

Put(t, word) ==
  /\ row' = [row EXCEPT ![t].inbox = @ \cup {word}]
  /\ seen' = [seen EXCEPT ![t] = IF "dedup" \in Broken THEN @ ELSE @ \cup {word}]
  /\ due' = [due EXCEPT ![t] = "now"]
  /\ jobs' = Stale(t, jobs)
  /\ UNCHANGED <<late, lease, woken, denied, slots>>

Say(t, a)        == Runs(sess[t][a]) \/ budget.words > 0
PayWord(t, a)    == IF Runs(sess[t][a]) THEN UNCHANGED budget ELSE Spend("words")

Register(t, a) ==
  /\ sess[t][a].starts > 0 /\ ~sess[t][a].reg /\ sess[t][a].p # "working" /\ Say(t, a) /\ PayWord(t, a)
  /\ IF Expects(t, a) /\ Accepts(t, <<"registered", a>>)
     THEN Put(t, <<"registered", a>>) /\ sess' = [sess EXCEPT ![t][a].reg = TRUE]
     ELSE UNCHANGED store /\ UNCHANGED jobs /\ sess' = [sess EXCEPT ![t][a].reg = TRUE, ![t][a].p = "gone"]
  /\ UNCHANGED <<human, ghost>>

\* A session that registered works as soon as its task says that it lives.
LetIn(t, a) ==
  /\ sess[t][a].p = "up" /\ sess[t][a].reg /\ row[t].ph = "live" /\ row[t].att = a /\ ~Over(t)
  /\ sess' = [sess EXCEPT ![t][a].p = "working", ![t][a].worked = TRUE]
  /\ UNCHANGED <<store, jobs, human, budget, ghost>>

Report(t, a) ==
  /\ sess[t][a].worked /\ ~sess[t][a].rep /\ Say(t, a) /\ PayWord(t, a)
  /\ IF Expects(t, a) /\ Accepts(t, <<"result", a>>)
     THEN Put(t, <<"result", a>>) /\ sess' = [sess EXCEPT ![t][a].rep = TRUE]
     ELSE UNCHANGED store /\ UNCHANGED jobs /\ sess' = [sess EXCEPT ![t][a].rep = TRUE, ![t][a].p = "gone"]
  /\ UNCHANGED <<human, ghost>>

Die(t, a) ==
  /\ Runs(sess[t][a]) /\ sess' = [sess EXCEPT ![t][a].p = "gone"]
  /\ UNCHANGED <<store, jobs, human, budget, ghost>>

\* The backend tells that a session ended.
Ring(t, a) ==
  /\ sess[t][a].p = "gone" /\ sess[t][a].starts > 0 /\ ~sess[t][a].rang /\ row[t].att = a /\ Accepts(t, <<"exited", a>>)
  /\ Put(t, <<"exited", a>>) /\ sess' = [sess EXCEPT ![t][a].rang = TRUE]
  /\ UNCHANGED <<human, budget, ghost>>

Ask(t, a) ==
  /\ Gates /\ sess[t][a].p = "working" /\ human[t] = "quiet" /\ Expects(t, a) /\ Accepts(t, <<"ask", 0>>)
  /\ Put(t, <<"ask", 0>>) /\ human' = [human EXCEPT ![t] = "asked"]
  /\ UNCHANGED <<sess, budget, ghost>>

Answer(t) ==
  /\ human[t] = "asked" /\ Accepts(t, <<"answer", 0>>)
  /\ Put(t, <<"answer", 0>>) /\ human' = [human EXCEPT ![t] = "answered"]
  /\ UNCHANGED <<sess, budget, ghost>>

\* A session asks again, because it never heard the answer to its call. The store must not take it for another question.
Repeat(t) ==
  /\ human[t] # "quiet" /\ budget.repeats > 0 /\ Spend("repeats")
  /\ IF Accepts(t, <<"ask", 0>>) THEN Put(t, <<"ask", 0>>) ELSE UNCHANGED store /\ UNCHANGED jobs
  /\ UNCHANGED <<sess, human, ghost>>

Upload(t) ==
  /\ row[t].st = "pending" /\ Accepts(t, <<"uploads", 0>>) /\ Put(t, <<"uploads", 0>>)
  /\ UNCHANGED <<sess, human, budget, ghost>>

AskToCancel(t) ==
  /\ budget.cancels > 0 /\ Spend("cancels") /\ Accepts(t, <<"cancel", 0>>) /\ Put(t, <<"cancel", 0>>)
  /\ ghost' = [ghost EXCEPT !.cancelled = @ \cup {t}]
  /\ UNCHANGED <<sess, human>>

-----------------------------------------------------------------------------
(* Time. *)
Elapse(t) ==
  /\ ~Over(t) /\ late[t] # "full" /\ budget.silence > 0 /\ (QueueEnds \/ row[t].st \notin Waiting)
  /\ IF budget.silence = 99 THEN UNCHANGED budget ELSE Spend("silence")
  /\ late' = [late EXCEPT ![t] = IF @ = "no" THEN "short" ELSE "full"]
  \* Who waits, waits for no later than that.
  /\ due' = [due EXCEPT ![t] = IF @ = "timer" THEN "now" ELSE @]
  /\ UNCHANGED <<row, lease, woken, denied, slots, seen, sess, jobs, human, ghost>>

\* A poll comes round: nothing has changed, somebody looks all the same.
Fire(t) ==
  /\ Polls /\ due[t] = "timer" /\ ~Over(t) /\ due' = [due EXCEPT ![t] = "now"]
  /\ UNCHANGED <<row, late, lease, woken, denied, slots, seen, sess, jobs, human, budget, ghost>>

SessionSteps(t) == \E a \in Attempts : Register(t, a) \/ LetIn(t, a) \/ Report(t, a) \/ Die(t, a) \/ Ring(t, a) \/ Ask(t, a)

Next ==
  \/ \E w \in Workers : Act(w) \/ Crash(w) \/ \E t \in Tasks : Claim(w, t)
  \/ \E t \in Tasks : \/ Expire(t) \/ SessionSteps(t) \/ Answer(t) \/ Repeat(t) \/ Upload(t) \/ AskToCancel(t)
                      \/ Elapse(t) \/ Fire(t)

Spec == Init /\ [][Next]_vars

(* Fairness, for what must come to pass: time passes, whoever is due is claimed in the end (oldest first), and a worker
   that holds a task goes on or is dead. Nothing is asked of sessions, people, polls, or the luck of a call.           *)
Fair == /\ \A t \in Tasks : WF_vars(Elapse(t)) /\ WF_vars(Expire(t))
        /\ \A t \in Tasks : SF_vars(\E w \in Workers : Claim(w, t))
        /\ \A w \in Workers : WF_vars(Act(w))
FairSpec == Spec /\ Fair

Perms == Permutations(Workers)

-----------------------------------------------------------------------------
(* What must always hold. *)
TypeOK ==
  /\ \A t \in Tasks : /\ row[t].st \in Status /\ row[t].ph \in Phases /\ row[t].att \in 0..MaxAttempts
                      /\ row[t].why \in Whys /\ row[t].inbox \subseteq Words /\ row[t].owed \subseteq {"start", "stop"}
                      /\ late[t] \in {"no", "short", "full"} /\ due[t] \in {"now", "timer", "never"}
                      /\ lease[t] \in {"none", "held", "expired"}
  /\ slots \subseteq Tasks /\ woken \subseteq Tasks /\ denied \subseteq Tasks

OneEnd         == \A t \in Tasks : ghost.ends[t] = IF Over(t) THEN 1 ELSE 0
NothingAfter   == "a task that has ended was changed" \notin ghost.wrong
InTable        == "a step outside the table" \notin ghost.wrong
SlotIffHolding == \A t \in Tasks : (t \in slots) <=> row[t].st \in Holding
UserCapHeld    == \A u \in 1..Users : Cardinality({t \in slots : UserOf(t) = u}) <= UserCap
SystemCapHeld  == Cardinality(slots) <= SystemCap
FirstInFirstOut == "an earlier task was overtaken" \notin ghost.wrong
FencedWord     == "an expired lease's commit was applied" \notin ghost.wrong
DecidedOn      == "a commit was applied on another revision than its own" \notin ghost.wrong
OwnWordKnown   == "a worker's own commit is told to be stale" \notin ghost.wrong
\* But for stops that nobody ever confirmed, which their end says.
NoOrphan       == Tombstones => \A t \in Tasks : Over(t) /\ t \notin ghost.unconf => \A a \in Attempts : ~Runs(sess[t][a])
NoWorkAfterEnd == \A t \in Tasks : Over(t) /\ t \notin ghost.unconf => \A a \in Attempts : sess[t][a].p # "working"
OneSession     == \A t \in Tasks : /\ Cardinality({a \in Attempts : sess[t][a].p = "working"}) <= 1
                                   /\ Tombstones => Cardinality({a \in Attempts : Runs(sess[t][a])}) <= 1
StartedOnce    == \A t \in Tasks : \A a \in Attempts : sess[t][a].starts <= IF Tombstones THEN 1 ELSE 2
OwedIsNeeded   == \A t \in Tasks : /\ row[t].ph = "stopping" => row[t].owed = {"stop"}
                                   /\ row[t].ph \notin {"starting", "stopping"} => row[t].owed = {}
InboxRead      == \A t \in Tasks : Over(t) => row[t].inbox = {} /\ row[t].owed = {}
CancelWins     == \A t \in Tasks : Over(t) /\ t \in ghost.cancelled => row[t].st = "cancelled"
AskedOnce      == \A t \in Tasks : ghost.asks[t] <= 1
\* Nobody holds the task, and a worker that looked would do something: then it is due. No wake-up is lost.
Wants(t)       == \A view \in {"up", "unseen"} :
                    Decide(row[t], {"denied", "started", "stop_failed", view}, late[t]).k # "wait"
DueWhenWanted  == \A t \in Tasks : ~Over(t) /\ lease[t] = "none" => due[t] # "never" /\ (Wants(t) => due[t] = "now")

\* Room that a waiting task could take is on offer: to itself, or to another one that is about to look.
RoomOffered    == \A t \in Tasks : row[t].st \in Waiting /\ Room(t, slots) /\ ~EarlierWaits(t)
                     => \E o \in Tasks : row[o].st \in Waiting /\ (due[o] = "now" \/ lease[o] # "none")

(* What must be possible: each of these must be found broken, or the configurations above prove nothing about it. *)
NeverEnds(st)     == \A t \in Tasks : row[t].st # st
NeverCompleted    == NeverEnds("completed")
NeverTimedOut     == NeverEnds("timed_out")
NeverAwaiting     == NeverEnds("awaiting")
NeverQueued       == NeverEnds("queued")
NeverSecond       == \A t \in Tasks : \A a \in Attempts : a > 1 => sess[t][a].p # "working"
NeverUnconfirmed  == ghost.unconf = {}
NeverZombie       == \A w \in Workers : jobs[w].t # 0 => jobs[w].own
NeverLateStart    == \A t \in Tasks : \A a \in Attempts : ~(Over(t) /\ Runs(sess[t][a]))

(* What must come to pass. *)
TerminalStable    == [][\A t \in Tasks : row[t].st \in Terminal => row'[t] = row[t]]_vars
EventuallyTerminal == \A t \in Tasks : <>[](row[t].st \in Terminal)
CancelConfirmed   == \A t \in Tasks : (t \in ghost.cancelled) ~> (row[t].st = "cancelled")
Admitted          == \A t \in Tasks : (row[t].st \in Waiting) ~> (row[t].st \notin Waiting)
=============================================================================
