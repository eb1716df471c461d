# SPDX-License-Identifier: GPL-3.0-or-later
# Makefile - `make help' names the targets.
EMACS ?= emacs
CC ?= cc
BUILD ?= build
export EMACS CC INSTALL

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
# Cleaning and helping need nothing installed.
ifneq ($(filter-out clean help,$(or $(MAKECMDGOALS),all)),)
include $(BUILD)/config.mk # made by the rule below
endif

VERSION := $(shell sed -n 's/^;; Version: //p' smtpmail-native.el)
MODULE ?= smtpmail-native-module$(SUFFIX)
EL = smtpmail-native.el $(wildcard lisp/*.el)
TESTS_EL = $(wildcard test/*-tests.el)
SOURCES = Makefile $(EL) $(wildcard module/*/*.[ch] test/*.el test/c/*.[ch] \
  test/fuzz/*.[ch] test/fuzz/*.mk module/*.org tools/* test/kill-test test/fault-test test/deb-test debian/rules \
  *.org test/*/*.org .ci/* bin/* .dir-locals.el)
# The glue alone knows Emacs; the core is a library without it.
GLUE = $(patsubst module/%.c,%,$(wildcard module/emacs/*.c))
CORE = $(filter-out $(GLUE),$(patsubst module/%.c,%,$(wildcard module/*/*.c)))
# A sanitizer keeps what was freed and has memory for itself; these look there.
PLAIN_TESTS = test-secrets test-memory test-coredump
C_TESTS = $(filter-out $(PLAIN_TESTS),$(basename $(notdir \
  $(wildcard test/c/test-*.c))))
PEER = $(filter-out peer,$(basename $(notdir $(wildcard test/c/peer-*.c))))
SUPPORT = certs certs-weak $(PEER)

# What builds here today must build with the compilers and the Emacsen of
# tomorrow, too: warnings are errors for those who develop, and in CI.
WERROR = $(if $(DEVELOPER)$(CI),-Werror)
WARN = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
  -Wconversion -Wno-sign-conversion $(WERROR)
CFLAGS ?= -O2 -g
# POSIX and what the systems have in common beside it.  The BSDs show that by
# themselves, unless they are asked for POSIX.
SYSTEM = -D_DEFAULT_SOURCE -D_DARWIN_C_SOURCE -D_FILE_OFFSET_BITS=64
SMN_CFLAGS = -std=c11 $(SYSTEM) -fPIC -fvisibility=hidden -pthread $(WARN) \
  -Imodule -Itest/c -MMD -MP $(LIB_CFLAGS) $(CFLAGS)
ASAN = -fsanitize=address,undefined -fno-sanitize-recover=undefined \
  -fno-omit-frame-pointer
TSAN = -fsanitize=thread
BATCH = $(EMACS) -Q --batch --eval '(setq load-prefer-newer t)' -L . -L lisp

LOG = $(BUILD)/log
SERVERS = $(BUILD)/plain/peer $(BUILD)/plain/sink $(BUILD)/plain/recorder.so \
  $(BUILD)/plain/slow-disk.so $(BUILD)/plain/faulty-disk.so
ASAN_LOGS = $(C_TESTS:%=$(LOG)/asan-%.log)
# One thread, and much to do.
TSAN_LOGS = $(patsubst %,$(LOG)/tsan-%.log,$(filter-out test-exhaustive test-orders,$(C_TESTS)))
PLAIN_LOGS = $(PLAIN_TESTS:%=$(LOG)/plain-%.log)
ERT_LOGS = $(TESTS_EL:test/%.el=$(LOG)/ert-%.log)
# Installing runs other Emacsen; what they do with the module the rest shows.
ASSERTIONS_LOGS = $(filter-out %-install-tests.log %-build-tests.log \
  %-exhaustive-tests.log %-fault-tests.log, \
  $(TESTS_EL:test/%.el=$(LOG)/assertions-%.log))

all: module $(BUILD)/lisp.stamp ## build the module, byte-compile the Lisp

module: $(MODULE) ## build the module alone

# One line for each step, or with V=1 its command.
Q = $(if $(V),,@)
say = @$(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),:,echo '$(strip $(1))')

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' $(firstword $(MAKEFILE_LIST)) \
	  $(wildcard test/fuzz/fuzz.mk) | sed 's/: /	/'

$(BUILD)/config.mk: tools/configure
	@tools/configure $@

# One set of objects for each variant: plain, asan, tsan.
define variant
$(BUILD)/$(1)/%.o: module/%.c $(BUILD)/config.mk
	@mkdir -p $$(@D)
	$$(call say,CC $$< $(3))
	$$(Q)$$(CC) $$(SMN_CFLAGS) $(2) $$(MODULE_CFLAGS) -c -o $$@ $$<
$(BUILD)/$(1)/%.o: test/c/%.c $(BUILD)/config.mk
	@mkdir -p $$(@D)
	$$(call say,CC $$< $(3))
	$$(Q)$$(CC) $$(SMN_CFLAGS) $(2) -c -o $$@ $$<
$(BUILD)/$(1)/libsmn.a: $(CORE:%=$(BUILD)/$(1)/%.o)
	$$(call say,AR $$@)
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
$(BUILD)/$(1)/test-%: $(BUILD)/$(1)/test-%.o $(SUPPORT:%=$(BUILD)/$(1)/%.o) \
    $(BUILD)/$(1)/libsmn.a
	$$(call say,LD $$@)
	$$(Q)$$(CC) -pthread $(2) -o $$@ $$^ $$(LIBS)
$(BUILD)/$(1)/peer: $(BUILD)/$(1)/peer.o $(SUPPORT:%=$(BUILD)/$(1)/%.o) \
    $(BUILD)/$(1)/libsmn.a
	$$(call say,LD $$@)
	$$(Q)$$(CC) -pthread $(2) -o $$@ $$^ $$(LIBS)
-include $$(wildcard $(BUILD)/$(1)/*.d $(BUILD)/$(1)/*/*.d)
endef
$(eval $(call variant,plain,,))
$(eval $(call variant,asan,$(ASAN),(asan)))
$(eval $(call variant,tsan,$(TSAN),(tsan)))
$(eval $(call variant,coverage,-O0 --coverage,(coverage)))

# The module says which sources it was built from; Lisp makes the same hash.
$(BUILD)/abi.h: $(wildcard module/*/*.[ch] lisp/smtpmail-native-load.el)
	@$(BATCH) -l smtpmail-native-load --eval \
	  '(princ (format "#define SMN_ABI \"%s\"\n" (smtpmail-native-load-hash ".")))' \
	  >$@.new
	@mv $@.new $@
$(BUILD)/plain/emacs/module.o: $(BUILD)/abi.h
$(BUILD)/plain/emacs/module.o: MODULE_CFLAGS += -include $(BUILD)/abi.h

# Overwriting a mapped module would crash the Emacs that uses it.
$(MODULE): $(GLUE:%=$(BUILD)/plain/%.o) $(BUILD)/plain/libsmn.a
	$(call say,LD $@)
	$(Q)$(CC) -shared -pthread -o $@.new $^ $(LIBS)
	@mv $@.new $@

$(BUILD)/lisp.stamp: $(EL) $(BUILD)/config.mk
	$(call say,ELC $(words $(EL)) files)
	$(Q)$(BATCH) $(if $(WERROR),--eval '(setq byte-compile-error-on-warn t)') \
	  -f batch-byte-compile $(EL)
	@touch $@

# Programs that share no code with the module.
ALONE = sink killer delay bench-server bench-bare
$(ALONE:%=$(BUILD)/plain/%): $(BUILD)/plain/%: $(BUILD)/plain/%.o
	$(call say,LD $@)
	$(Q)$(CC) -o $@ $^ $(LIBS)
$(BUILD)/plain/delay $(BUILD)/plain/bench-server: $(BUILD)/plain/fork-server.o

# What is loaded before a program stands between it and its files.
$(BUILD)/plain/recorder.so $(BUILD)/plain/slow-disk.so \
    $(BUILD)/plain/faulty-disk.so: \
    $(BUILD)/plain/%.so: $(BUILD)/plain/%.o
	$(CC) -shared -pthread -o $@ $^ -ldl

$(BUILD)/plain/bench-engine: $(BUILD)/plain/bench-engine.o \
    $(BUILD)/plain/libsmn.a
	$(call say,LD $@)
	$(Q)$(CC) -pthread -o $@ $^ $(LIBS)

# A log is the outcome of one part; to be added up, a failure must not end make.
$(LOG)/asan-%.log: $(BUILD)/asan/% FORCE
	@tools/run $@ env ASAN_OPTIONS=detect_leaks=1 $< test/peer
$(LOG)/tsan-%.log: $(BUILD)/tsan/% FORCE
	@tools/run $@ env TSAN_OPTIONS=halt_on_error=1 $< test/peer
$(LOG)/plain-%.log: $(BUILD)/plain/% FORCE
	@tools/run $@ $(RUN) $< test/peer
$(LOG)/ert-%.log: test/%.el all $(SERVERS) FORCE
	@tools/run $@ $(BATCH) -L test -l $< -f ert-run-tests-batch-and-exit
$(LOG)/assertions-%.log: test/%.el all $(SERVERS) FORCE
	@tools/run $@ $(BATCH) -module-assertions \
	  -L test -l $< -f ert-run-tests-batch-and-exit
$(LOG)/kill.log: all $(SERVERS) $(BUILD)/plain/killer FORCE
	@tools/run $@ test/kill-test 12

# Real servers, each where its package is seen by this part only; that all is
# there what the test needs is part of the test.
SERVER_LOGS = $(LOG)/server-postfix.log $(LOG)/server-dovecot.log \
  $(LOG)/server-exim.log $(LOG)/server-opensmtpd.log $(LOG)/server-lmtp.log
PACKAGES_postfix = postfix dovecot-submissiond
PACKAGES_dovecot = dovecot-submissiond dovecot-gssapi krb5-kdc \
  krb5-admin-server krb5-user
PACKAGES_lmtp = dovecot-lmtpd
PACKAGES_exim = exim4-daemon-light
PACKAGES_opensmtpd = opensmtpd
$(LOG)/server-%.log: test/smtpmail-native-%-tests.el all $(SERVERS) FORCE
	@tools/run $@ tools/with-packages $(PACKAGES_$*) -- \
	  env SMTPMAIL_NATIVE_SERVERS=1 $(BATCH) -L test -l $< \
	  --eval '(ert-run-tests-batch-and-exit "$*-")'

# By itself make would run one part after the other.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
PARALLEL = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(CORES))

check: ## run all tests
	+@$(MAKE) --no-print-directory $(PARALLEL) WERROR=$(WERROR) all
	+@$(MAKE) --no-print-directory $(PARALLEL) WERROR=$(WERROR) check-parts
check-parts check-c: $(ASAN_LOGS) $(TSAN_LOGS) $(PLAIN_LOGS)
check-parts check-lisp: $(ERT_LOGS) $(ASSERTIONS_LOGS)
check-parts check-kill: $(LOG)/kill.log
check-servers: $(SERVER_LOGS) ## run the tests with real servers, as root
# For another compiler, or with RUN another machine.  Under an emulator neither
# the memory of a program can be looked at, nor are socket buffers its own.
check-plain: $(patsubst %,$(LOG)/plain-%.log,$(if $(RUN),$(filter-out \
  test-records,$(C_TESTS)),$(C_TESTS) $(PLAIN_TESTS)))
check-asan: $(ASAN_LOGS)
check-tsan: $(TSAN_LOGS)
check-ert: $(ERT_LOGS)
check-assertions: $(ASSERTIONS_LOGS)
CHECKS = check-parts check-c check-lisp check-kill check-plain check-asan check-tsan \
  check-ert check-assertions check-servers
$(CHECKS):
	@tools/summary $^
check lint $(CHECKS): WERROR = -Werror

check-clang: ## run the C tests as clang builds them, without sanitizers
	+@$(MAKE) --no-print-directory $(PARALLEL) BUILD=$(BUILD)/clang CC=clang \
	  WERROR=-Werror check-plain

check-musl: ## compile the core with musl-gcc, run the C tests that need no TLS
	tools/musl $(BUILD)/musl

check-big-endian: ## run the C tests for s390x under qemu, as root; takes minutes
	tools/in-suite bookworm tools/big-endian $(PARALLEL)

# make torture ROUNDS=300 SEED=1 EMACSEN=2: so many share the outbox at once.
torture: all $(SERVERS) $(BUILD)/plain/killer ## kill a sending Emacs 300 times
	test/kill-test $(or $(ROUNDS),300) $(or $(SEED),$$(date +%s)) $(EMACSEN)

lint: all ## check formatting and style
	@LINT=1 tools/configure $(BUILD)/lint.mk
	clang-format --dry-run -Werror module/*/*.[ch] test/c/*.[ch] test/fuzz/*.[ch]
	clang $(filter-out -M%,$(SMN_CFLAGS)) $(MODULE_CFLAGS) -DSMN_ABI='""' \
	  -fsyntax-only module/*/*.c test/c/*.c
	clang-tidy --quiet module/*/*.c test/c/*.c -- -std=c11 -Imodule \
	  $(SYSTEM) -DSMN_ABI='""' \
	  $(MODULE_CFLAGS) $(LIB_CFLAGS)
	cppcheck --quiet --enable=warning,portability,performance \
	  --error-exitcode=1 --inline-suppr --std=c11 module test/c
	$(BATCH) -L test -l tools/checkdoc.el $(EL) \
	  $(wildcard test/*.el test/power/*.el test/faults/*.el)
	$(EMACS) --batch -L . -L lisp -l tools/lint-package.el $(EL)
	tools/check-layers
	tools/check-arrows
	tools/check-text $(SOURCES)

powercut: all $(SERVERS) ## lose the power at each step of each scene
	$(BATCH) -L test -L test/power -l powercut -f powercut-run $(SCENES)

# make faults SAMPLE=4 SEED=1 SCENES="background" ERRORS="EIO": without SAMPLE
# each operation of each scene, which takes an hour.
faults: all $(SERVERS) ## let each operation of the disk fail
	@SCENES="$(SCENES)" ERRORS="$(ERRORS)" test/fault-test $(or $(SAMPLE),0) \
	  $(or $(SEED),1)

damage: all $(SERVERS) ## damage files of the outbox, N times
	@N=$(or $(N),1000) SEED=$(or $(SEED),1) $(BATCH) -L test -L test/faults \
	  -l damage -f damage-run

# What the C tests reach of the core.  A test that fails counts, too.
COVERAGE = $(C_TESTS:%=$(BUILD)/coverage/%)
coverage: $(COVERAGE) ## show which lines of the core no test reaches
	@find $(BUILD)/coverage -name '*.gcda' -delete
	@for test in $(COVERAGE); do $$test test/peer >/dev/null || echo "$$test failed"; done
	@tools/coverage $(BUILD)/coverage 92

# make coverage-lisp LISP="verdict outcome" TESTS="verdict watch": some files,
# by some tests.
COVERED = verdict outcome entry network
BY = verdict entry network watch schedule
coverage-lisp: all $(SERVERS) ## show which lines of some Lisp files no test reaches
	@FILES="$(patsubst %,lisp/smtpmail-native-%.el,$(or $(LISP),$(COVERED)))" \
	  TESTS="$(patsubst %,test/smtpmail-native-%-tests.el,$(or $(TESTS),$(BY)))" \
	  $(BATCH) -L test -l smtpmail-native-command -l test/coverage.el \
	  -f coverage-run

# In a copy, because the tree is changed: make mutants N=100 SEED=1 FILES=...
mutants: ## change the code at random, see whether a test notices
	rm -rf $(BUILD)/mutants && mkdir -p $(BUILD)/mutants
	git ls-files -z | xargs -0 tar -cf - | tar -xf - -C $(BUILD)/mutants
	$(MAKE) -C $(BUILD)/mutants -s BUILD=build all \
	  $(C_TESTS:%=build/plain/%) $(PLAIN_TESTS:%=build/plain/%) \
	  $(SERVERS:$(BUILD)/%=build/%)
	cd $(BUILD)/mutants && N=$(N) SEED=$(SEED) $(EMACS) -Q --batch \
	  -l test/mutants.el -f mutants-run $(FILES)

demo: all $(BUILD)/plain/peer ## send a mail to the scripted server, show it
	$(BATCH) -L test -l test/demo.el

pictures: all $(BUILD)/plain/peer ## take pictures of the windows, with Xvfb
	tools/pictures $(BUILD)/pictures

BENCHES = delay bench-server bench-bare bench-engine
bench: all $(SERVERS) $(BENCHES:%=$(BUILD)/plain/%) ## measure
	-@BENCH=1 tools/configure $(BUILD)/bench.mk
	$(BATCH) -L test -l test/bench.el

# The manual, with a directory file so that "C-h i" finds it.
INFO = $(BUILD)/doc/smtpmail-native.info
info: $(INFO) ## make the Info manual

$(INFO): doc/smtpmail-native.org tools/info.el
	@mkdir -p $(@D)
	$(EMACS) -Q --batch -l tools/info.el $< $(@:.info=.texi)
	cd $(@D) && makeinfo --no-split smtpmail-native.texi
	cd $(@D) && rm -f dir && install-info --dir-file=dir smtpmail-native.info

# What users get.  The package has the tree of the repository without the tests,
# so that Emacs builds the module in it as in a checkout.
PACKAGE = smtpmail-native-$(VERSION)
DISTRIBUTED = $(EL) Makefile README.org NEWS.org COPYING .elpaignore \
  tools/configure $(wildcard module/*/*.[ch] doc/*.org doc/*.png)

HAVE_MAKEINFO := $(shell command -v makeinfo)
dist: $(BUILD)/$(PACKAGE).tar ## make the tar that package-install-file takes

$(BUILD)/$(PACKAGE).tar: $(DISTRIBUTED) $(if $(HAVE_MAKEINFO),$(INFO))
	rm -rf $(BUILD)/dist && mkdir -p $(BUILD)/dist/$(PACKAGE)
	tar -cf - $(DISTRIBUTED) | tar -xf - -C $(BUILD)/dist/$(PACKAGE)
	$(BATCH) -l tools/package.el -f smtpmail-native-package-describe \
	  smtpmail-native.el $(BUILD)/dist/$(PACKAGE)/smtpmail-native-pkg.el
	if [ -n "$(HAVE_MAKEINFO)" ]; then \
	  cp $(INFO) $(dir $(INFO))dir $(BUILD)/dist/$(PACKAGE); \
	fi
	cd $(BUILD)/dist && tar -cf ../$(PACKAGE).tar $(PACKAGE)

# make install DESTDIR= PREFIX=/usr/local: one flat directory of Lisp with its
# autoloads, the module (in MODULEDIR), and a file that says which module fits
# and where it is.
PREFIX ?= /usr/local
LISPDIR ?= $(PREFIX)/share/emacs/site-lisp/smtpmail-native
MODULEDIR ?= $(LISPDIR)
INFODIR ?= $(PREFIX)/share/info
BINDIR ?= $(PREFIX)/bin

install: all $(if $(HAVE_MAKEINFO),$(INFO)) ## install Lisp and module below DESTDIR and PREFIX
	mkdir -p $(DESTDIR)$(LISPDIR) $(DESTDIR)$(MODULEDIR)
	cp -p $(EL) $(EL:.el=.elc) $(DESTDIR)$(LISPDIR)
	cp -p $(MODULE) $(DESTDIR)$(MODULEDIR)/$(notdir $(MODULE)).new
	mv $(DESTDIR)$(MODULEDIR)/$(notdir $(MODULE)).new \
	  $(DESTDIR)$(MODULEDIR)/$(notdir $(MODULE))
	sed -n 's/.*"\(.*\)".*/\1/p' $(BUILD)/abi.h >$(DESTDIR)$(LISPDIR)/smtpmail-native-abi
	echo $(MODULEDIR) >>$(DESTDIR)$(LISPDIR)/smtpmail-native-abi
	$(BATCH) -l tools/package.el -f smtpmail-native-package-autoloads \
	  $(DESTDIR)$(LISPDIR)
	mkdir -p $(DESTDIR)$(BINDIR)
	sed 's|@LISPDIR@|$(LISPDIR)|' bin/smtpmail-native \
	  >$(DESTDIR)$(BINDIR)/smtpmail-native
	chmod 755 $(DESTDIR)$(BINDIR)/smtpmail-native
	if [ -n "$(HAVE_MAKEINFO)" ]; then \
	  mkdir -p $(DESTDIR)$(INFODIR) && cp -p $(INFO) $(DESTDIR)$(INFODIR); \
	fi
# Where it is only staged, the package's own scripts list the manual.
	if [ -n "$(HAVE_MAKEINFO)" ] && [ -z "$(DESTDIR)" ]; then \
	  install-info --dir-file=$(INFODIR)/dir $(INFODIR)/smtpmail-native.info; \
	fi

uninstall: ## remove what `make install' has put there
	if [ -f $(INFODIR)/smtpmail-native.info ] && [ -z "$(DESTDIR)" ]; then \
	  install-info --delete --dir-file=$(INFODIR)/dir \
	    $(INFODIR)/smtpmail-native.info; \
	fi
	rm -rf $(DESTDIR)$(LISPDIR)
	rm -f $(DESTDIR)$(MODULEDIR)/$(notdir $(MODULE)) \
	  $(DESTDIR)$(INFODIR)/smtpmail-native.info \
	  $(DESTDIR)$(BINDIR)/smtpmail-native

clean: ## remove all that was built
	rm -rf $(BUILD) smtpmail-native-module.* *.elc lisp/*.elc test/*.elc

# A package comes without the tests.
-include test/fuzz/fuzz.mk

FORCE:
.PHONY: all module help check $(CHECKS) check-clang check-musl check-big-endian torture lint powercut faults damage coverage coverage-lisp mutants \
  demo pictures bench info dist install uninstall clean FORCE
.SECONDARY:
