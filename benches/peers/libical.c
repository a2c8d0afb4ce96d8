/* Milliseconds that libical takes to parse a feed and to read what a program needs of each event:
   libical <feed> <rounds>. */
#include <libical/ical.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    FILE *file = fopen(argv[1], "rb");
    int rounds = argc > 2 ? atoi(argv[2]) : 1;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    if (fread(text, 1, size, file) != (size_t)size) return 1;
    text[size] = 0;
    for (int round = 0; round < rounds; round++) {
        double start = now();
        icalcomponent *calendar = icalparser_parse_string(text);
        long events = 0, sum = 0;
        icalcomponent *event = icalcomponent_get_first_component(calendar, ICAL_VEVENT_COMPONENT);
        for (; event; event = icalcomponent_get_next_component(calendar, ICAL_VEVENT_COMPONENT)) {
            const char *texts[] = {icalcomponent_get_uid(event), icalcomponent_get_summary(event),
                icalcomponent_get_description(event), icalcomponent_get_location(event)};
            for (int i = 0; i < 4; i++) sum += texts[i] ? (long)strlen(texts[i]) : 0;
            sum += icalcomponent_get_dtstart(event).hour + icalcomponent_get_dtend(event).hour;
            events++;
        }
        icalcomponent_free(calendar);
        printf("%.2f ms %ld events %ld\n", now() - start, events, sum);
    }
    return 0;
}
