# SPDX-License-Identifier: GPL-3.0-or-later
# fuzz.mk - the fuzzers, a part of the Makefile: test/fuzz/README.org.

# Whole dialogues.  The linker hands the core's system calls to world.c.
DIALOGUE = world plan server rules judge drive drive-engine dialogue
WRAPPED = poll connect send recv clock_gettime fsync fdatasync pthread_create \
  pthread_join pthread_mutex_lock pthread_cond_wait pthread_cond_timedwait \
  pthread_cond_signal pthread_cond_broadcast

$(BUILD)/fuzz/%.o: test/fuzz/%.c $(BUILD)/config.mk
	@mkdir -p $(@D)
	$(CC) $(SMN_CFLAGS) $(ASAN) -Itest/fuzz -c -o $@ $<
$(BUILD)/fuzz/dialogue: $(DIALOGUE:%=$(BUILD)/fuzz/%.o) \
    $(SUPPORT:%=$(BUILD)/asan/%.o) $(BUILD)/asan/libsmn.a
	$(CC) -pthread $(ASAN) $(WRAPPED:%=-Wl,--wrap=%) -o $@ $^ $(LIBS)
-include $(wildcard $(BUILD)/fuzz/*.d)

fuzz-dialogue: $(BUILD)/fuzz/dialogue ## play N=10000 dialogues from SEED=1 on
	$< -n $(or $(N),10000) -s $(or $(SEED),1) $(if $(V),-v)

fuzz-proof: $(BUILD)/fuzz/dialogue ## see that planted faults are noticed
	$< -p

.PHONY: fuzz-dialogue fuzz-proof
