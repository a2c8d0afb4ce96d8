/* The peer of recurrence.rs: expands a feed's VEVENTs with libical.
 *
 *     libical FEED FROM TO        both in seconds since the epoch
 *
 * Prints milliseconds, the number of dates, and a sum that depends on which event has which. The
 * feed is parsed before the time is taken. */
#include <inttypes.h>
#include <libical/ical.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* New York in the window. libical's own look-up of a zone takes 50 times as long as its step from
 * date to date, which is what is to be measured. */
enum { SUMMER = 4 * 3600 };

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) exit(2);
    long size = ftell(file);
    rewind(file);
    char *text = malloc((size_t)size + 1);
    if (!text || fread(text, 1, (size_t)size, file) != (size_t)size) exit(2);
    text[size] = 0;
    fclose(file);
    return text;
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1e3 + at.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    icalcomponent *calendar = icalparser_parse_string(read_file(argv[1]));
    int64_t from = atoll(argv[2]), to = atoll(argv[3]);
    if (!calendar) return 3;
    uint64_t number = 0, sum = 0;

    double begun = now();
    for (icalcomponent *event = icalcomponent_get_first_component(calendar, ICAL_VEVENT_COMPONENT);
         event; event = icalcomponent_get_next_component(calendar, ICAL_VEVENT_COMPONENT)) {
        uint64_t uid = (uint64_t)atoll(icalcomponent_get_uid(event));
        struct icaltimetype start = icalcomponent_get_dtstart(event);
        icalproperty *rule = icalcomponent_get_first_property(event, ICAL_RRULE_PROPERTY);
        struct icaltimetype except[8];
        int exceptions = 0;
        for (icalproperty *one = icalcomponent_get_first_property(event, ICAL_EXDATE_PROPERTY);
             one && exceptions < 8;
             one = icalcomponent_get_next_property(event, ICAL_EXDATE_PROPERTY))
            except[exceptions++] = icalproperty_get_exdate(one);
        /* Wall times: a step must not pay for the zone. */
        start.zone = NULL;
        icalrecur_iterator *iterator = icalrecur_iterator_new(icalproperty_get_rrule(rule), start);
        struct icaltimetype date;
        int first = 1;
        while (iterator) {
            date = icalrecur_iterator_next(iterator);
            if (first) {
                /* DTSTART counts whether or not its rule yields it. */
                first = 0;
                if (icaltime_is_null_time(date) || icaltime_compare(date, start) != 0) {
                    int64_t at = icaltime_as_timet(start) + SUMMER;
                    if (at >= from && at < to) {
                        number++;
                        sum += ((uid + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)at) *
                               UINT64_C(0xff51afd7ed558ccd);
                    }
                }
            }
            if (icaltime_is_null_time(date)) break;
            int64_t at = icaltime_as_timet(date) + SUMMER;
            if (at >= to) break;
            if (at < from) continue;
            int excluded = 0;
            for (int i = 0; i < exceptions; i++) {
                struct icaltimetype e = except[i];
                excluded |= e.year == date.year && e.month == date.month && e.day == date.day &&
                            e.hour == date.hour && e.minute == date.minute;
            }
            if (excluded) continue;
            number++;
            sum += ((uid + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ (uint64_t)at) *
                   UINT64_C(0xff51afd7ed558ccd);
        }
        icalrecur_iterator_free(iterator);
    }
    printf("%f %" PRIu64 " %" PRIu64 "\n", now() - begun, number, sum);
    return 0;
}
