/* SPDX-License-Identifier: GPL-3.0-or-later */
/* engine.c - jobs in worker threads.
   An account is a server with a user: it has the jobs that wait for it and the
   workers that serve it.  An item, which is a job on its way, is in the queue
   of its account or in one hand of one worker, until its event takes job and
   result along.  While an account has a queue it has a worker that has not
   decided to leave.  */
#include "engine/engine.h"
#include "base/wait.h"
#include "engine/disk.h"
#include "engine/events.h"
#include "engine/network.h"
#include "mail/receipt.h"
#include "smtp/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_FOR_ONE 16 /* jobs that one session may have waiting */
#define LARGE 1048576    /* octets of a message that others do not wait for */

/* A job on its way.  Its event is made before the work begins, so that no lack
   of memory can swallow an outcome.  The server of the job is borrowed from the
   account.  One that is cancelled while its session works for another is told
   at once: it has no event any more, and its session finds out in its turn.  */
struct item {
  struct item *next; /* in the queue, under lock */
  struct smn_job *job;
  struct smn_event *done;    /* under lock; NULL: what came of it is told */
  struct smn_result *result; /* in a hand only */
  struct smn_task task;
  struct smn_observer observer;
  bool plainly;   /* it has met with a server that breaks under pipelining */
  bool ahead;     /* under lock: its session works for another one still */
  bool cancelled; /* under lock */
};

/* A place for one item, and the pipe through which the wish to cancel it wakes
   the session.  An empty hand has an empty pipe: no wish outlives its item,
   and none reaches another.  Under lock, but for the pipe.  */
struct hand {
  struct item *item;
  bool large; /* the message takes long */
  int pipe[2];
};

/* One item is being sent, and the commands of the next may have left.  */
#define HANDS 2

/* A thread, and the session that it keeps.  Under lock is all but the
   session.  */
struct worker {
  struct worker *next;
  struct account *account;
  struct smn_session *session;
  struct hand hands[HANDS];
  bool leaving; /* it takes no more: the server does not want it */
};

/* Under lock, but the server never changes.  */
struct account {
  struct account *next;
  struct smn_server *server;
  struct worker *workers;
  struct item *queue, **queue_end;
  size_t waiting; /* in the queue */
  bool crowded;   /* the server has turned a worker away */
};

static struct {
  pthread_once_t once;
  pthread_mutex_t lock;   /* of all that follows */
  pthread_cond_t changed; /* a queue, or the workers */
  struct account *accounts;
  bool stopping; /* kept sessions end */
} engine = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static void init(void) { smn_condition_init(&engine.changed); }

static void lock(void) {
  pthread_once(&engine.once, init);
  pthread_mutex_lock(&engine.lock);
}

static void unlock(void) { pthread_mutex_unlock(&engine.lock); }

/* Accounts.  All under lock.  */

static struct account *find_account(const struct smn_server *server) {
  struct account *account = engine.accounts;
  while (account && !smn_server_same(account->server, server))
    account = account->next;
  return account;
}

/* NULL without memory.  */
static struct account *make_account(const struct smn_server *server) {
  struct account *account = calloc(1, sizeof *account);
  if (account && !(account->server = smn_server_copy(server))) {
    free(account);
    return NULL;
  }
  if (account) {
    account->queue_end = &account->queue;
    account->next = engine.accounts;
    engine.accounts = account;
  }
  return account;
}

/* Forget an account that has no use any more.  */
static void drop_account(struct account *account) {
  struct account **at = &engine.accounts;
  if (account->workers || account->queue)
    return;
  while (*at != account)
    at = &(*at)->next;
  *at = account->next;
  smn_server_free(account->server);
  free(account);
}

static void put_first(struct account *account, struct item *item) {
  item->next = account->queue;
  if (!account->queue)
    account->queue_end = &item->next;
  account->queue = item;
  account->waiting++;
}

static void put_last(struct account *account, struct item *item) {
  item->next = NULL;
  *account->queue_end = item;
  account->queue_end = &item->next;
  account->waiting++;
}

/* Take the item at AT out of the queue.  */
static struct item *pull(struct account *account, struct item **at) {
  struct item *item = *at;
  *at = item->next;
  if (!*at)
    account->queue_end = at;
  item->next = NULL;
  account->waiting--;
  return item;
}

/* Items */

/* Nothing is told of an item after its outcome.  */
static void on_trace(void *context, bool from_server, const char *text,
                     size_t len) {
  const struct item *item = context;
  lock();
  if (item->done)
    smn_events_trace(item->job->id, from_server, text, len);
  unlock();
}

static void on_progress(void *context, uint64_t sent, uint64_t total);

/* NULL without memory; JOB stays the caller's then.  */
static struct item *new_item(struct smn_job *job) {
  struct item *item = calloc(1, sizeof *item);
  struct smn_event *done = smn_event_new(job->id, SMN_EVENT_DONE);
  if (!item || !done) {
    free(item);
    smn_event_free(done);
    return NULL;
  }
  item->job = job;
  item->done = done;
  item->observer = (struct smn_observer){
      .context = item, .trace = on_trace, .progress = on_progress};
  return item;
}

static void free_result(struct item *item) {
  if (item->result)
    smn_result_free(item->result);
  free(item->result);
  item->result = NULL;
}

/* Under lock: what came of ITEM goes out, with its result if it has one.  */
static void hand_out(struct item *item) {
  smn_job_return(item->job);
  if (item->done) {
    item->done->job = item->job;
    item->done->result = item->result;
    smn_events_post(item->done);
  } else {
    free_result(item);
    smn_job_free(item->job);
  }
  free(item);
}

/* Under lock: ITEM, which is not in a hand, was never begun.  */
static void turn_away(struct item *item, enum smn_kind kind, const char *text) {
  if (item->done) {
    item->done->kind = kind;
    item->done->text = strdup(text); /* NULL: the kind tells enough */
  }
  hand_out(item);
}

/* Under lock: tell that ITEM, which is ahead, is cancelled.  Its session keeps
   the job.  Without memory it is told in its turn.  */
static void tell_cancelled(struct item *item) {
  struct smn_event *done = item->done;
  done->job = smn_job_addressees(item->job);
  if (!done->job)
    return;
  done->kind = SMN_CANCELLED;
  done->text = strdup("cancelled");
  item->done = NULL;
  smn_events_post(done);
}

static bool prepare(struct item *item) {
  item->result = malloc(sizeof *item->result);
  if (item->result && smn_result_init(item->result, item->job)) {
    item->task = (struct smn_task){item->job, &item->observer, item->result};
    return true;
  }
  free(item->result);
  item->result = NULL;
  return false;
}

/* Hands.  All under lock.  */

static struct hand *hand_of(struct worker *worker, const struct item *item) {
  for (struct hand *hand = worker->hands; hand < worker->hands + HANDS; hand++)
    if (hand->item == item)
      return hand;
  return NULL;
}

static struct hand *other_hand(struct worker *worker, const struct hand *hand) {
  return &worker->hands[hand == worker->hands];
}

/* ITEM begins with a connection of its own.  */
static bool alone(const struct item *item) {
  return item->plainly || item->job->probe;
}

/* Take the first item of the queue into a hand; NULL if there is none.  With
   PIPELINED one that must not be is left there.  */
static struct item *take(struct worker *worker, bool pipelined) {
  struct account *account = worker->account;
  struct hand *hand = hand_of(worker, NULL);
  while (hand && account->queue && !(pipelined && alone(account->queue))) {
    struct item *item = pull(account, &account->queue);
    if (prepare(item)) {
      hand->item = item;
      item->ahead = other_hand(worker, hand)->item != NULL;
      item->observer.cancel_fd = hand->pipe[0];
      return item;
    }
    turn_away(item, SMN_SYSTEM, "no memory");
  }
  return NULL;
}

/* Empty the hand that holds ITEM, and its pipe.  */
static void let_go(struct worker *worker, const struct item *item) {
  struct hand *hand = hand_of(worker, item);
  struct hand *other = other_hand(worker, hand);
  char octet;
  hand->item = NULL;
  hand->large = false;
  if (other->item)
    other->item->ahead = false;
  if (item->cancelled)
    while (read(hand->pipe[0], &octet, 1) < 0 && errno == EINTR)
      continue;
}

static void wish_to_cancel(struct hand *hand) {
  if (!hand->item || hand->item->cancelled)
    return;
  hand->item->cancelled = true;
  if (hand->item->ahead)
    tell_cancelled(hand->item);
  while (write(hand->pipe[1], "", 1) < 0 && errno == EINTR)
    continue;
}

/* What a session asks of its worker */

static struct item *item_of(const struct smn_task *task) {
  return task->observer->context;
}

static const struct smn_task *on_next(void *context) {
  struct worker *worker = context;
  lock();
  const struct item *item = worker->leaving ? NULL : take(worker, true);
  unlock();
  return item ? &item->task : NULL;
}

static bool on_begin(void *context, const struct smn_task *task) {
  (void)context;
  lock();
  bool wanted = !item_of(task)->cancelled;
  unlock();
  return wanted;
}

/* The receipt is written before the event goes out, so that the disk knows as
   much as Lisp.  */
static void on_done(void *context, const struct smn_task *task) {
  struct worker *worker = context;
  struct item *item = item_of(task);
  struct smn_error err;
  lock();
  item->ahead = false; /* what came of it is known */
  bool told = !item->done;
  unlock();
  if (!told && item->job->entry &&
      smn_receipt_write(item->job, item->result, &err) != SMN_OK)
    item->result->unrecorded = strdup(err.text);
  lock();
  let_go(worker, item);
  hand_out(item);
  unlock();
}

/* Under lock: another worker will look at the queue again.  */
static bool others(const struct worker *worker) {
  const struct worker *other = worker->account->workers;
  while (other && (other == worker || other->leaving))
    other = other->next;
  return other != NULL;
}

/* ITEM is the first of its account again.  One that the server does not want
   by this connection waits for another, if there is one.  */
static bool on_back(void *context, const struct smn_task *task,
                    enum smn_back why) {
  struct worker *worker = context;
  struct item *item = item_of(task);
  bool unwanted = why == SMN_BACK_UNWANTED;
  lock();
  bool taken = !unwanted || others(worker);
  if (taken) {
    worker->leaving = unwanted;
    worker->account->crowded = worker->account->crowded || unwanted;
    let_go(worker, item);
    free_result(item);
    item->plainly = item->plainly || why == SMN_BACK_PLAINLY;
    put_first(worker->account, item);
    if (item->cancelled)
      turn_away(pull(worker->account, &worker->account->queue), SMN_CANCELLED,
                "cancelled");
    pthread_cond_broadcast(&engine.changed);
  }
  unlock();
  return taken;
}

/* Workers */

static bool open_hands(struct worker *worker) {
  for (int i = 0; i < HANDS; i++) {
    int *pipe = worker->hands[i].pipe;
    if (!smn_pipe(pipe)) {
      pipe[0] = -1;
      return false;
    }
    (void)smn_set_nonblocking(pipe[0]);
  }
  return true;
}

static void free_worker(struct worker *worker) {
  for (int i = 0; i < HANDS; i++)
    if (worker->hands[i].pipe[0] >= 0) {
      close(worker->hands[i].pipe[0]);
      close(worker->hands[i].pipe[1]);
    }
  free(worker);
}

/* NULL, with *err set, if what it needs cannot be had.  */
static struct worker *new_worker(struct account *account,
                                 struct smn_error *err) {
  struct worker *worker = calloc(1, sizeof *worker);
  if (!worker) {
    smn_fail(err, SMN_SYSTEM, "no memory");
    return NULL;
  }
  worker->account = account;
  for (int i = 0; i < HANDS; i++)
    worker->hands[i].pipe[0] = -1;
  if (open_hands(worker))
    return worker;
  smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
  free_worker(worker);
  return NULL;
}

/* Under lock: the worker is gone for all others.  */
static void leave(struct worker *worker) {
  struct worker **at = &worker->account->workers;
  while (*at != worker)
    at = &(*at)->next;
  *at = worker->next;
  drop_account(worker->account);
  pthread_cond_broadcast(&engine.changed);
}

/* Under lock: wait for an item, as long as a session is worth keeping.  NULL:
   nothing came.  */
static struct item *await_item(struct worker *worker) {
  int64_t deadline = smn_now_ms() + worker->account->server->idle_ms;
  struct item *item = NULL;
  bool in_time = true;
  if (worker->leaving)
    return NULL;
  while (!(item = take(worker, false)) && in_time && worker->session &&
         !engine.stopping)
    in_time = smn_condition_wait(&engine.changed, &engine.lock, deadline);
  return item;
}

static void end_session(struct worker *worker) {
  smn_session_close(worker->session);
  worker->session = NULL;
}

static void run_item(struct worker *worker, struct item *item) {
  const struct smn_supply supply = {
      .context = worker,
      .next = item->plainly ? NULL : on_next,
      .begin = on_begin,
      .done = on_done,
      .back = item->plainly ? NULL : on_back,
  };
  if (worker->session && (item->plainly || !smn_session_alive(worker->session)))
    end_session(worker);
  if (!worker->session)
    worker->session = smn_session_new(item->plainly);
  if (worker->session) {
    smn_session_serve(worker->session, &item->task, &supply);
    return;
  }
  smn_fail(&item->result->error, SMN_SYSTEM, "no memory");
  on_done(worker, &item->task);
}

static void *work(void *argument) {
  struct worker *worker = argument;
  struct item *item;
  lock();
  while ((item = await_item(worker)) || worker->session) {
    unlock();
    if (item)
      run_item(worker, item);
    /* QUIT is said before the worker counts as gone.  */
    if (worker->session && (!item || !smn_session_alive(worker->session)))
      end_session(worker);
    lock();
  }
  leave(worker);
  unlock();
  free_worker(worker);
  return NULL;
}

/* Under lock.  */
static enum smn_kind start_worker(struct account *account,
                                  struct smn_error *err) {
  pthread_t thread;
  struct worker *worker = new_worker(account, err);
  if (!worker)
    return SMN_SYSTEM;
  int errnum = smn_thread_start(&thread, work, worker);
  if (errnum != 0) {
    free_worker(worker);
    return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  }
  pthread_detach(thread);
  worker->next = account->workers; /* which it sees after the lock */
  account->workers = worker;
  return SMN_OK; /* cppcheck-suppress memleak ; the thread owns it */
}

/* Under lock: have a session work on ACCOUNT.  One more session is worth it
   when many are waiting.  SMN_SYSTEM: there is no worker at all.  */
static enum smn_kind staff(struct account *account, struct smn_error *err) {
  int workers = 0, prompt = 0;
  for (const struct worker *w = account->workers; w; w = w->next)
    if (!w->leaving) {
      workers++;
      prompt += !w->hands[0].large && !w->hands[1].large;
    }
  if (workers == 0)
    return start_worker(account, err);
  if (!account->crowded && workers < account->server->max_sessions &&
      account->waiting > QUEUE_FOR_ONE * (size_t)prompt)
    (void)start_worker(account, err);
  return SMN_OK;
}

/* Small messages do not wait for a large one.  */
static void on_progress(void *context, uint64_t sent, uint64_t total) {
  struct item *item = context;
  struct smn_error ignored;
  smn_events_progress(item->job->id, sent, total);
  if (total < LARGE)
    return;
  lock();
  for (struct account *a = engine.accounts; a; a = a->next)
    for (struct worker *w = a->workers; w; w = w->next) {
      struct hand *hand = hand_of(w, item);
      if (hand && !hand->large) {
        hand->large = true;
        (void)staff(a, &ignored);
      }
    }
  unlock();
}

/* What the main thread asks */

/* Under lock: put ITEM into the queue of its account.  */
static enum smn_kind enqueue(struct item *item, struct smn_error *err) {
  struct smn_server *server = &item->job->server;
  struct account *account = find_account(server);
  if (!account && !(account = make_account(server)))
    return smn_fail(err, SMN_SYSTEM, "no memory");
  account->server->idle_ms = server->idle_ms;
  account->server->max_sessions = server->max_sessions;
  smn_job_borrow(item->job, account->server);
  put_last(account, item);
  if (staff(account, err) != SMN_OK) {
    while (account->queue)
      turn_away(pull(account, &account->queue), SMN_SYSTEM, err->text);
    drop_account(account);
  }
  pthread_cond_broadcast(&engine.changed);
  return SMN_OK;
}

enum smn_kind smn_engine_submit(struct smn_job *job, long *id,
                                struct smn_error *err) {
  *id = job->id = smn_events_id();
  struct item *item = new_item(job);
  enum smn_kind kind = SMN_SYSTEM;
  if (item) {
    lock();
    engine.stopping = false;
    kind = enqueue(item, err);
    unlock();
  } else
    smn_fail(err, SMN_SYSTEM, "no memory");
  if (kind == SMN_OK)
    return SMN_OK;
  smn_job_free(job);
  if (item)
    smn_event_free(item->done);
  free(item);
  return kind;
}

/* Under lock: what waits goes out at once; it was never begun.  */
static bool cancel_waiting(long id) {
  for (struct account *a = engine.accounts; a; a = a->next)
    for (struct item **at = &a->queue; *at; at = &(*at)->next)
      if ((*at)->job->id == id) {
        turn_away(pull(a, at), SMN_CANCELLED, "cancelled");
        return true;
      }
  return false;
}

/* Under lock.  */
static bool cancel_in_hand(long id) {
  for (struct account *a = engine.accounts; a; a = a->next)
    for (struct worker *w = a->workers; w; w = w->next)
      for (struct hand *hand = w->hands; hand < w->hands + HANDS; hand++)
        if (hand->item && hand->item->done && hand->item->job->id == id) {
          wish_to_cancel(hand);
          return true;
        }
  return false;
}

bool smn_engine_cancel(long id) {
  lock();
  bool found = cancel_waiting(id) || cancel_in_hand(id);
  unlock();
  return found;
}

static void cancel_all(void) {
  for (struct account *a = engine.accounts; a; a = a->next) {
    while (a->queue)
      turn_away(pull(a, &a->queue), SMN_CANCELLED, "cancelled");
    for (struct worker *w = a->workers; w; w = w->next)
      for (int i = 0; i < HANDS; i++)
        wish_to_cancel(&w->hands[i]);
  }
}

/* Under lock: wait until no worker is left; false at DEADLINE.  An account
   without a worker has no queue, and so there is none.  */
static bool await_end(int64_t deadline) {
  bool in_time = true;
  while (engine.accounts && in_time)
    in_time = smn_condition_wait(&engine.changed, &engine.lock, deadline);
  return !engine.accounts;
}

bool smn_engine_shutdown(int timeout_ms) {
  int64_t now = smn_now_ms(), deadline = now + timeout_ms;
  lock();
  engine.stopping = true;
  pthread_cond_broadcast(&engine.changed);
  /* What is nearly done may well get done; a message whose end is on its way
     would become one of unknown outcome.  */
  bool all = await_end(now + timeout_ms / 2);
  if (!all) {
    cancel_all();
    all = await_end(deadline);
  }
  unlock();
  smn_tls_forget();
  int64_t left = deadline - smn_now_ms();
  all = smn_disk_finish(left > 0 ? (int)left : 0) && all;
  left = deadline - smn_now_ms();
  return smn_network_finish(left > 0 ? (int)left : 0) && all;
}
