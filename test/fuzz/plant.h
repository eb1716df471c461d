/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plant.h - faults of the core, played at its seams, to see that each rule is
   watched.  */
#ifndef PLANT_H
#define PLANT_H

enum plant {
  PLANT_NONE,
  PLANT_TWO_OUTCOMES,
  PLANT_OK,          /* each failure is told as ok */
  PLANT_OTHERS,      /* ok, but for one recipient less */
  PLANT_CERTAIN,     /* what is in doubt is told as failed */
  PLANT_DOUBT,       /* each failure is told as in doubt */
  PLANT_FAILED,      /* ok is told as broken */
  PLANT_AGAIN,       /* each message is sent once more */
  PLANT_AHEAD,       /* RSET goes along with each MAIL */
  PLANT_DEAF,        /* the end of data leaves whatever is there */
  PLANT_OCTET,       /* an octet of the content is another one */
  PLANT_QUIT,        /* QUIT stands in the content */
  PLANT_NO_TIMEOUTS, /* nothing is waited for in vain but for ever */
  PLANT_NO_CANCEL,   /* no wish to cancel is heard */
  PLANT_LEAK,
  PLANT_DESCRIPTOR,
  PLANT_PASSWORD,
  PLANT_RECEIPT,  /* the receipt says something else */
  PLANT_UNMARKED, /* doubt is not written before the end of data leaves */
  PLANTS
};

extern enum plant plant;

#endif
