/* The promises of proxy/loop/timer.h; time is a number that the tests choose. */
#include "loop/timer.h"

#include "support/unit.h"

#define START_MS INT64_C(1234567891)
#define DAY_MS (INT64_C(24) * 3600 * 1000)

/* A timer that notes when it fired, and may do something to another one then. */
struct alarm {
    struct timer timer;
    unsigned fired;
    int64_t fired_ms;     /* the wheel's time then */
    struct timer *stops;  /* stopped as this one fires */
    int64_t again_ms;     /* > 0: starts itself again so much later */
    unsigned again_count; /* so many times */
};

static struct timer_wheel wheel;
static int64_t last_fired_ms; /* of any alarm */

static void ring(struct timer *timer) {
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);

    assert_false(timer_is_running(timer));
    assert_true(wheel.now_ms >= last_fired_ms);
    last_fired_ms = wheel.now_ms;
    alarm->fired++;
    alarm->fired_ms = wheel.now_ms;
    if (alarm->stops)
        timer_wheel_remove(&wheel, alarm->stops);
    if (alarm->again_count > 0) {
        alarm->again_count--;
        timer_wheel_add(&wheel, timer, wheel.now_ms + alarm->again_ms);
    }
}

/* A timer is linked to itself at first, so an alarm is made where it stays. */
#define ALARM(name)          \
    struct alarm name = {0}; \
    timer_init(&(name).timer, ring)

static int set_up(void **state) {
    timer_wheel_init(&wheel, START_MS);
    last_fired_ms = START_MS;
    return 0;
}

static void an_empty_wheel_has_nothing_to_do(void **state) {
    assert_int_equal(timer_wheel_next_ms(&wheel), INT64_MAX);
    timer_wheel_advance(&wheel, START_MS + DAY_MS);
    assert_int_equal(wheel.now_ms, START_MS + DAY_MS);
    assert_int_equal(wheel.running, 0);
}

static void a_timer_fires_at_its_tick_and_never_before(void **state) {
    static const int64_t delays[] = {1,      2,           63,           64,      65,
                                     4095,   4096,        4097,         262144,  16777216,
                                     DAY_MS, 30 * DAY_MS, 400 * DAY_MS, 1 << 30, INT64_C(1) << 40};

    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        ALARM(alarm);

        set_up(NULL);
        timer_wheel_add(&wheel, &alarm.timer, START_MS + delays[i]);
        assert_true(timer_wheel_next_ms(&wheel) <= START_MS + delays[i]);
        timer_wheel_advance(&wheel, START_MS + delays[i] - 1);
        assert_int_equal(alarm.fired, 0);
        assert_true(timer_is_running(&alarm.timer));
        timer_wheel_advance(&wheel, START_MS + delays[i]);
        assert_int_equal(alarm.fired, 1);
        assert_int_equal(alarm.fired_ms, START_MS + delays[i]);
        assert_int_equal(wheel.running, 0);
        assert_int_equal(timer_wheel_next_ms(&wheel), INT64_MAX);
    }
}

static void what_next_ms_names_leads_to_the_timer_in_few_steps(void **state) {
    ALARM(alarm);
    unsigned steps = 0;

    timer_wheel_add(&wheel, &alarm.timer, START_MS + 3 * DAY_MS + 12345);
    for (; !alarm.fired; steps++) {
        int64_t next_ms = timer_wheel_next_ms(&wheel);

        assert_true(next_ms > wheel.now_ms);
        timer_wheel_advance(&wheel, next_ms);
    }
    assert_true(steps <= TIMER_LEVELS);
    assert_int_equal(alarm.fired_ms, START_MS + 3 * DAY_MS + 12345);
}

static void a_timer_for_the_past_fires_at_the_next_tick(void **state) {
    ALARM(now);
    ALARM(past);

    timer_wheel_add(&wheel, &now.timer, START_MS);
    timer_wheel_add(&wheel, &past.timer, START_MS - DAY_MS);
    timer_wheel_advance(&wheel, START_MS);
    assert_int_equal(now.fired + past.fired, 0);
    timer_wheel_advance(&wheel, START_MS + 1);
    assert_int_equal(now.fired, 1);
    assert_int_equal(past.fired, 1);
}

static void one_leap_fires_in_order_of_time(void **state) {
    static struct alarm alarms[500];
    uint64_t seed = 7;

    for (size_t i = 0; i < 500; i++) {
        alarms[i] = (struct alarm){0};
        timer_init(&alarms[i].timer, ring);
        timer_wheel_add(&wheel, &alarms[i].timer, START_MS + (int64_t)(rnd(&seed) % DAY_MS));
    }
    timer_wheel_advance(&wheel, START_MS + DAY_MS); /* ring() checks the order */
    for (size_t i = 0; i < 500; i++) {
        assert_int_equal(alarms[i].fired, 1);
        assert_int_equal(alarms[i].fired_ms, alarms[i].timer.at_ms);
    }
}

static void a_moved_timer_fires_at_its_new_time_only(void **state) {
    ALARM(sooner);
    ALARM(later);

    timer_wheel_add(&wheel, &sooner.timer, START_MS + DAY_MS);
    timer_wheel_add(&wheel, &later.timer, START_MS + 10);
    timer_wheel_remove(&wheel, &sooner.timer);
    timer_wheel_add(&wheel, &sooner.timer, START_MS + 5);
    timer_wheel_remove(&wheel, &later.timer);
    timer_wheel_add(&wheel, &later.timer, START_MS + 5000);
    timer_wheel_advance(&wheel, START_MS + 20);
    assert_int_equal(sooner.fired_ms, START_MS + 5);
    assert_int_equal(later.fired, 0);
    timer_wheel_advance(&wheel, START_MS + 2 * DAY_MS);
    assert_int_equal(later.fired_ms, START_MS + 5000);
    assert_int_equal(sooner.fired, 1);
}

static void a_stopped_timer_does_not_fire_and_stopping_twice_is_harmless(void **state) {
    ALARM(alarm);

    timer_wheel_add(&wheel, &alarm.timer, START_MS + 100);
    timer_wheel_remove(&wheel, &alarm.timer);
    timer_wheel_remove(&wheel, &alarm.timer);
    assert_int_equal(wheel.running, 0);
    assert_int_equal(timer_wheel_next_ms(&wheel), INT64_MAX);
    timer_wheel_advance(&wheel, START_MS + DAY_MS);
    assert_int_equal(alarm.fired, 0);
}

/* On the lowest level, where both lie in one slot, and at the start of a higher slot, which is
 * emptied as a whole. */
static void one_that_fires_may_stop_another_that_is_due_with_it(void **state) {
    static const int64_t delays[] = {3, 4096, 262144, 16777216};

    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        int64_t at_ms = ((START_MS + delays[i]) / delays[i] + 1) * delays[i];
        ALARM(first);
        ALARM(second);
        ALARM(other);

        set_up(NULL);
        timer_wheel_add(&wheel, &first.timer, at_ms);
        timer_wheel_add(&wheel, &second.timer, at_ms);
        timer_wheel_add(&wheel, &other.timer, at_ms);
        first.stops = &second.timer;
        timer_wheel_advance(&wheel, at_ms);
        assert_int_equal(first.fired, 1);
        assert_int_equal(second.fired, 0);
        assert_int_equal(other.fired, 1);
        assert_int_equal(wheel.running, 0);
        assert_int_equal(timer_wheel_next_ms(&wheel), INT64_MAX);
    }
}

/* The other one lies in the same high slot, but is due later. */
static void one_that_fires_may_stop_another_that_is_about_to_move_down(void **state) {
    int64_t at_ms = (START_MS / 4096 + 2) * 4096;
    ALARM(first);
    ALARM(second);

    timer_wheel_add(&wheel, &first.timer, at_ms);
    timer_wheel_add(&wheel, &second.timer, at_ms + 17);
    first.stops = &second.timer;
    timer_wheel_advance(&wheel, at_ms + 4096);
    assert_int_equal(first.fired, 1);
    assert_int_equal(second.fired, 0);
    assert_int_equal(wheel.running, 0);
}

static void one_that_fires_may_start_itself_again(void **state) {
    ALARM(alarm);

    alarm.again_ms = 250;
    alarm.again_count = 9;
    timer_wheel_add(&wheel, &alarm.timer, START_MS + 250);
    timer_wheel_advance(&wheel, START_MS + 1000);
    assert_int_equal(alarm.fired, 4);
    timer_wheel_advance(&wheel, START_MS + 10000);
    assert_int_equal(alarm.fired, 10);
    assert_int_equal(alarm.fired_ms, START_MS + 2500);
    assert_int_equal(wheel.running, 0);
}

/* --- The wheel and a plain list agree ------------------------------------------------------- */

#define MODEL_TIMERS 300
#define MODEL_OPERATIONS 100000

struct model {
    struct timer timer;
    int64_t at_ms; /* 0: does not run */
};

static struct model models[MODEL_TIMERS];
static uint64_t model_seed;
static int64_t model_until_ms; /* of the advance under way */
static unsigned model_fired;

static void model_start(struct model *model) {
    /* Mostly near, sometimes years away. */
    int64_t delay_ms = (int64_t)(rnd(&model_seed) >> (64 - 1 - rnd(&model_seed) % 38));

    timer_wheel_remove(&wheel, &model->timer);
    timer_wheel_add(&wheel, &model->timer, wheel.now_ms + delay_ms);
    model->at_ms = wheel.now_ms + (delay_ms ? delay_ms : 1);
}

static void model_stop(struct model *model) {
    timer_wheel_remove(&wheel, &model->timer);
    model->at_ms = 0;
}

static int64_t model_first_ms(void) {
    int64_t first_ms = INT64_MAX;

    for (size_t i = 0; i < MODEL_TIMERS; i++)
        if (models[i].at_ms && models[i].at_ms < first_ms)
            first_ms = models[i].at_ms;
    return first_ms;
}

static void model_fire(struct timer *timer) {
    struct model *model = CONTAINER_OF(timer, struct model, timer);

    assert_int_equal(model->at_ms, wheel.now_ms);
    assert_int_equal(model->at_ms, model_first_ms());
    assert_true(model->at_ms <= model_until_ms);
    model->at_ms = 0;
    model_fired++;
    if (rnd(&model_seed) % 4 == 0)
        model_start(model);
    if (rnd(&model_seed) % 4 == 0)
        model_stop(&models[rnd(&model_seed) % MODEL_TIMERS]);
    if (rnd(&model_seed) % 4 == 0)
        model_start(&models[rnd(&model_seed) % MODEL_TIMERS]);
}

static void the_wheel_agrees_with_a_plain_list(void **state) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        set_up(NULL);
        model_seed = seed;
        model_fired = 0;
        for (size_t i = 0; i < MODEL_TIMERS; i++) {
            timer_init(&models[i].timer, model_fire);
            models[i].at_ms = 0;
        }
        for (unsigned i = 0; i < MODEL_OPERATIONS; i++) {
            struct model *model = &models[rnd(&model_seed) % MODEL_TIMERS];
            uint64_t choice = rnd(&model_seed) % 8;

            if (choice < 3) {
                model_start(model);
            } else if (choice < 4) {
                model_stop(model);
            } else {
                int64_t next_ms = timer_wheel_next_ms(&wheel);

                assert_true(next_ms > wheel.now_ms);
                assert_true(next_ms <= model_first_ms());
                model_until_ms =
                    wheel.now_ms + (int64_t)(rnd(&model_seed) >> (64 - 1 - rnd(&model_seed) % 16));
                timer_wheel_advance(&wheel, model_until_ms);
                assert_int_equal(wheel.now_ms, model_until_ms);
                assert_true(model_first_ms() > model_until_ms);
            }
        }
        assert_true(model_fired > MODEL_OPERATIONS / 100);
        model_until_ms = wheel.now_ms;
        for (size_t i = 0; i < MODEL_TIMERS; i++) {
            assert_int_equal(timer_is_running(&models[i].timer), models[i].at_ms != 0);
            model_stop(&models[i]);
        }
        assert_int_equal(wheel.running, 0);
        assert_int_equal(timer_wheel_next_ms(&wheel), INT64_MAX);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_wheel_has_nothing_to_do, set_up),
        cmocka_unit_test_setup(a_timer_fires_at_its_tick_and_never_before, set_up),
        cmocka_unit_test_setup(what_next_ms_names_leads_to_the_timer_in_few_steps, set_up),
        cmocka_unit_test_setup(a_timer_for_the_past_fires_at_the_next_tick, set_up),
        cmocka_unit_test_setup(one_leap_fires_in_order_of_time, set_up),
        cmocka_unit_test_setup(a_moved_timer_fires_at_its_new_time_only, set_up),
        cmocka_unit_test_setup(a_stopped_timer_does_not_fire_and_stopping_twice_is_harmless,
                               set_up),
        cmocka_unit_test_setup(one_that_fires_may_stop_another_that_is_due_with_it, set_up),
        cmocka_unit_test_setup(one_that_fires_may_stop_another_that_is_about_to_move_down, set_up),
        cmocka_unit_test_setup(one_that_fires_may_start_itself_again, set_up),
        cmocka_unit_test_setup(the_wheel_agrees_with_a_plain_list, set_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
